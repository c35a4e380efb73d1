from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_tools import Cli, clean_environment, command, picture

from pixelmill.cli import main
from pixelmill.cli.private import private_service


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Run `pixelmill` as a user does, in an empty folder."""
    folder = tmp_path / "cwd"
    folder.mkdir()

    def run(
        *arguments: str | Path, stdin: bytes = b"", env: dict[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        environment = {**clean_environment(), "XDG_DATA_HOME": str(tmp_path / "xdg"), **(env or {})}
        return subprocess.run(
            command(*arguments), input=stdin, capture_output=True, timeout=100, cwd=cwd or folder, env=environment
        )

    return run


@pytest.fixture
def cli_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """The same in this process, for command lines that end before anything starts: a process costs them a second."""
    folder = tmp_path / "cwd"
    folder.mkdir(exist_ok=True)
    for name in [name for name in os.environ if name.startswith("PIXELMILL_")]:
        monkeypatch.delenv(name)

    def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
        monkeypatch.chdir(cwd or folder)
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert isinstance(ended.value.code, int)
        told = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, ended.value.code, told.out.encode(), told.err.encode())

    return run


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a sub-folder: a.jpg, b.png, sub/c.webp, sub/a.jpeg, a hidden file, and a text."""
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(picture(1))
    (folder / "b.png").write_bytes(picture(2, suffix=".png"))
    (folder / "sub" / "c.webp").write_bytes(picture(3, suffix=".webp"))
    (folder / "sub" / "a.jpeg").write_bytes(picture(4))
    (folder / ".hidden.jpg").write_bytes(picture(5))
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture(scope="session")
def service_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real service, for all tests of a session."""
    folder = tmp_path_factory.mktemp("service")
    with private_service(folder, folder / "data") as url:
        yield url
