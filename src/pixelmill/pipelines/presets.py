"""Presets: pipelines with a name. Owns the table of built-in ones and the value that holds all that are known.

A preset is text here; ``forms.py`` gives it its meaning where ``preset:NAME`` stands. What comes out of parsing is
always the expanded pipeline: hash, stored jobs and workers never see a preset. The user's presets are read at the edges
and handed down as a :class:`Presets`; nothing here reads a file.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pixelmill.errors import PipelineError, UnknownOperation

MAX_PRESETS = 256
"""Presets of a user."""
MAX_DEPTH = 8
"""Presets within presets."""
NAME = re.compile(r"[a-z][a-z0-9_-]{0,40}")


@dataclass(frozen=True, slots=True)
class Preset:
    """``form`` is the text form of a pipeline, which may hold other presets; ``title`` is its name for people."""

    name: str
    form: str
    summary: str = ""
    built_in: bool = False
    title: str = ""


@dataclass(frozen=True)  # no slots: what is looked up is computed once and kept in __dict__
class Presets:
    """The presets that are known, by name. Equality and hash are those of the entries."""

    entries: tuple[Preset, ...] = ()

    def __iter__(self) -> Iterator[Preset]:
        return iter(self.entries)

    @cached_property
    def by_name(self) -> Mapping[str, Preset]:
        """Every preset."""
        return {preset.name: preset for preset in self.entries}

    @cached_property
    def expansions(self) -> dict[str, Any]:
        """What ``forms.py`` found each preset to mean; at most an entry each."""
        return {}

    def named(self, name: str) -> Preset:
        """The preset of that name; raises :class:`UnknownOperation` with the nearest names."""
        found = self.by_name.get(name)
        if found is not None:
            return found
        nearest = difflib.get_close_matches(name[:80].lower(), self.by_name, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
        raise UnknownOperation(
            f"There is no preset {name[:80]!r}.{hint} `pixelmill presets` lists all.",
            operation="preset",
            preset=name[:80],
            nearest=nearest,
        )

    def with_users(self, forms: Mapping[str, str]) -> Presets:
        """These and a user's, of which one takes the place of a built-in one of its name.

        So a release that brings a new built-in preset changes nothing for who has one of that name. Raises
        :class:`PipelineError` for a name that can't be one, or too many.
        """
        if len(forms) > MAX_PRESETS:
            raise PipelineError(f"There are {len(forms):,} presets; at most {MAX_PRESETS} are taken.")
        for name in forms:
            if NAME.fullmatch(name) is None:
                raise PipelineError(
                    f"{name[:80]!r} can't be the name of a preset: it starts with a small letter, and has at most 41 "
                    "small letters, digits, _ and -."
                )
        kept = tuple(preset for preset in self.entries if preset.name not in forms)
        return Presets(kept + tuple(Preset(name, form) for name, form in forms.items()))


def _built_in(name: str, title: str, form: str, summary: str) -> Preset:
    return Preset(name, form, summary, built_in=True, title=title)


BUILT_IN = Presets(
    (
        _built_in(
            "web",
            "For the web",
            "resize:1600,1600,fit=inside/format:auto",
            "For a web page: at most 1600 pixels a side",
        ),
        _built_in(
            "avatar",
            "Round portrait",
            "resize:256,256,fit=outside,enlarge=true/smart_crop:256,256/round_corners:128/format:auto",
            "A round portrait, 256 pixels wide, with what catches the eye",
        ),
        _built_in(
            "social",
            "Link picture",
            "resize:1200,630,fit=outside,enlarge=true/smart_crop:1200,630/format:jpeg,quality=85",
            "The picture of a link in social media, 1200×630",
        ),
        _built_in(
            "placeholder",
            "Placeholder",
            "resize:32,32/gaussian:1/format:webp,quality=40",
            "A few hundred bytes to show until the picture is there",
        ),
        _built_in(
            "scan",
            "Scanned page",
            "grayscale/threshold:adaptive/format:png,compression=6",
            "A photographed page as black on white",
        ),
        _built_in(
            "thumbnail",
            "Thumbnail, 256 gray",
            "grayscale/resize:256,256,fit=fill/format:jpeg",
            "256×256 in gray, as studies of serverless thumbnails make it",
        ),
        _built_in("pencil", "Sketch", "sketch", "A pencil drawing"),
        _built_in(
            "remove-background",
            "Background removal",
            "remove_background/format:png",
            "What stands in front, on transparency (a learned model)",
        ),
        _built_in("caption", "Caption", "caption", "A sentence that says what is to be seen (a learned model)"),
        _built_in("edges", "Edges (Canny)", "canny:100,200", "Edges, white on black (Canny)"),
        _built_in(
            "segments",
            "Segments (watershed)",
            "watershed:overlay",
            "Touching objects told apart, drawn over the picture (watershed)",
        ),
        _built_in(
            "matching",
            "Feature matching",
            "match:second",
            "The same motif in a second picture (which is given as the image `second`), with lines between",
        ),
        _built_in("face-boxes", "Faces", "faces:draw", "Faces found, framed, and listed in the data"),
        _built_in(
            "keypoints",
            "Keypoints",
            "features:orb,draw=true",
            "Points that can be found again in another picture, drawn",
        ),
    )
)
"""Those that come with Pixelmill. Some need what this version or machine lacks: ``lacks.py`` tells."""
