"""Names in HTTP headers: what a client calls a file, and what a browser may save it as. Pure text.

Making a name safe takes 50 µs, and most requests of a client carry the same one, so the last 1,024 are remembered.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from pathlib import PurePosixPath
from urllib.parse import quote

from pixelmill.storage.keys import safe_name

MAX_NAME = 1_000
# RFC 5987 attr-char without what percent-encoding must keep apart.
_ATTR_CHARS = "!#$&+-.^_`|~"
_NOT_IN_QUOTES = re.compile(r'[^\x20-\x7e]|["\\%]')


def clean_name(name: str) -> str:
    """A client's name for its file as it is kept and shown: one line of printable text, at most 1,000 characters.

    Folders stay (a page may send a tree); it is never used as a path. The end is kept, for it has the extension.
    """
    if name.isascii() and name.isprintable() and "\\" not in name:
        return name.strip()[-MAX_NAME:] or "unnamed"
    text = name.replace("\\", "/").encode("utf-8", "replace").decode()
    text = "".join(c for c in text if unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Zl", "Zp"})
    return text.strip()[-MAX_NAME:] or "unnamed"


@lru_cache(maxsize=1_024)
def content_disposition(name: str, *, inline: bool) -> str:
    """``Content-Disposition`` per RFC 6266: an ASCII ``filename``, and ``filename*`` (RFC 5987) where it differs."""
    safe = safe_name(name)
    plain = _NOT_IN_QUOTES.sub("_", unicodedata.normalize("NFKD", safe).encode("ascii", "replace").decode())
    plain = plain.replace("?", "_")
    kind = "inline" if inline else "attachment"
    header = f'{kind}; filename="{plain}"'
    return header if plain == safe else f"{header}; filename*=UTF-8''{quote(safe, safe=_ATTR_CHARS)}"


@lru_cache(maxsize=1_024)
def result_name(source: str, extension: str) -> str:
    """The source's name with the extension of the result; ``extension`` comes with its dot."""
    name = PurePosixPath(safe_name(source))
    return f"{name.stem}{extension}"
