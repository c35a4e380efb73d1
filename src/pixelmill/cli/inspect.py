"""`pixelmill inspect`: what image files are, from their headers; no pixel is decoded."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixelmill.errors import ObjectNotFound, PixelmillError, StorageDenied, StorageError

if TYPE_CHECKING:
    from pixelmill.images.image import ImageInfo


def inspect(
    files: Annotated[list[str], typer.Argument(help="Image files.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line a file.")] = False,
    metadata: Annotated[
        bool, typer.Option("--metadata", help="List metadata: blocks, place, camera, date, author, copyright.")
    ] = False,
) -> None:
    """Say what image files are, from their headers: nothing is decoded, and no extension is believed.

    Exit code 1 if any file is not an image that can be read.
    """
    from pixelmill.images.metadata_look import describe
    from pixelmill.images.probe import probe

    rows: list[tuple[object, ...]] = []
    failed = False
    for name in files:
        try:
            data = _read(Path(name))
            info = probe(data)
        except PixelmillError as error:
            failed = True
            if as_json:
                print(json.dumps({"file": name, "error": {"type": error.type, "detail": error.detail}}))
            else:
                print(f"{name}: {error}", file=sys.stderr)
            continue
        found = describe(data, info.format)
        if as_json:
            print(json.dumps({"file": name, **_record(info), "metadata": found}))
        elif metadata:
            rows += [(name, key, _value(value)) for key, value in found.items()] or [(name, "none", "")]
        else:
            rows.append((name, *_cells(info), " ".join(key for key in ("exif", "xmp", "iptc", "gps") if key in found)))
    if rows:
        from pixelmill.cli.tables import print_table

        print_table(_METADATA_COLUMNS if metadata else _COLUMNS, rows)
    if failed:
        raise typer.Exit(1)


_COLUMNS = ("file", "format", "size", "megapixels", "mode", "bits", "frames", "orientation", "ICC", "bytes", "metadata")
_METADATA_COLUMNS = ("file", "metadata", "value")


def _value(value: int | str | bool) -> str:
    if value is True:
        return "yes"
    return f"{value:,} bytes" if isinstance(value, int) else value


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ObjectNotFound("There is no such file.") from error
    except PermissionError as error:
        raise StorageDenied("It can't be read: permission denied.") from error
    except OSError as error:
        raise StorageError(f"It can't be read: {error.strerror}.") from error


def _record(info: ImageInfo) -> dict[str, Any]:
    return {**asdict(info), "size": list(info.size), "stored_size": list(info.stored_size)}


def _cells(info: ImageInfo) -> tuple[object, ...]:
    from pixelmill.cli.tables import size_text

    mode = info.mode + (" + alpha" if info.has_alpha and info.mode != "rgba" else "")
    megapixels = f"{info.size.pixels / 1e6:.2f}"
    turned = "upright" if info.orientation == 1 else f"EXIF {info.orientation}"
    size = f"{info.size.width}x{info.size.height}"
    bits, icc = info.depth, "yes" if info.has_icc else ""
    return info.format, size, megapixels, mode, bits, info.frames, turned, icc, size_text(info.bytes)
