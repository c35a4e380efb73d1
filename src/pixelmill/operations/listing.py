"""Formats as plain data, for those who ask which there are: the command line, REST, forms that are drawn from it."""

from __future__ import annotations

from typing import Any

from pixelmill.images.encoders import AUTO, ENDS
from pixelmill.images.formats import FORMATS, WRITTEN, Format


def format_records() -> list[dict[str, Any]]:
    """Every format, in the table's order, and ``auto`` behind them.

    ``parameters`` is the JSON Schema of the options of ``format:NAME``, None where it is not written; ``extra`` what
    must be installed for it.
    """
    return [_record(known) for known in FORMATS.values()] + [
        {
            "name": AUTO,
            "media_type": None,
            "extensions": [],
            "read": False,
            "written": True,
            "animated": True,
            "extra": None,
            "parameters": _schema(AUTO),
        }
    ]


def _record(known: Format) -> dict[str, Any]:
    return {
        "name": known.name,
        "media_type": known.media_type,
        "extensions": list(known.extensions),
        "read": True,
        "written": known.written,
        "animated": known.animated,
        "extra": known.extra,
        "parameters": _schema(known.name) if known.name in WRITTEN else None,
    }


def _schema(name: str) -> dict[str, Any]:
    return {key: value for key, value in ENDS[name].model_json_schema().items() if key != "description"}
