"""Puts the built pages into wheels and source distributions, so that nobody who installs one needs Node."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PagesHook(BuildHookInterface[Any]):
    """Builds the pages before the files are collected; an editable installation gets them from the Makefile."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, or say why there are no pages in what is built."""
        del build_data
        if version == "editable":
            return
        spec = importlib.util.spec_from_file_location("pages_build", Path(self.root) / "web" / "build.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        try:
            module.build()
        except module.CannotBuild as error:
            self.app.display_warning(f"Pixelmill is built without its pages: {error}")
