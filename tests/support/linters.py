"""What checks deploy/, from the environment that `make linters` makes; absent, a test skips, in CI it fails."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
LINT = ROOT / ".venv-lint"


def there(path: Path) -> Path:
    """The path, if it is there."""
    if not path.exists():
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say(f"{path.relative_to(ROOT)} is not here: run `make linters`")
    return path


def lint(
    program: str, *arguments: str | Path, given: str | None = None, seconds: float = 110
) -> subprocess.CompletedProcess[str]:
    """Run a program of that environment, in the project's folder, to its end."""
    command = [there(LINT / "bin" / program), *arguments]
    return subprocess.run(command, cwd=ROOT, input=given, capture_output=True, text=True, timeout=seconds, check=False)
