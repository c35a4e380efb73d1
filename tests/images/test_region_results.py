"""Results get their names on file systems of all kinds."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pixelmill.errors import ObjectExists, StorageError
from pixelmill.images.region_results import FileResult


@pytest.fixture(params=["links", "no links"])
def _file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One with hard links, and one that refuses them as FAT does."""

    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    if request.param == "no links":
        monkeypatch.setattr(os, "link", refused)


@pytest.mark.usefixtures("_file_system")
def test_a_result_takes_a_free_name_and_no_other(tmp_path: Path) -> None:
    for number in range(2):
        result = FileResult(tmp_path / "out.tif", if_absent=True)
        result.append(b"abc%d" % number)
        if number == 0:
            result.finish()
        else:
            with pytest.raises(ObjectExists, match="already"):
                result.finish()
            result.abort()
    assert (tmp_path / "out.tif").read_bytes() == b"abc0"
    assert [path.name for path in tmp_path.iterdir()] == ["out.tif"]


@pytest.mark.parametrize("name", ["画" * 80 + ".tif", "a" * 250 + ".tif"])
def test_names_as_long_as_they_may_be(tmp_path: Path, name: str) -> None:
    result = FileResult(tmp_path / name)
    result.append(b"abc")
    result.finish()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_that_can_not_be_flushed_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flush, code = os.fsync, errno.EINVAL

    def only_files(fd: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{fd}"):  # noqa: PTH112 -- a descriptor, not a path
            raise OSError(code, os.strerror(code))
        flush(fd)

    monkeypatch.setattr(os, "fsync", only_files)
    result = FileResult(tmp_path / "out.tif", if_absent=True)
    result.append(b"abc")
    result.finish()
    code = errno.EIO
    result = FileResult(tmp_path / "other.tif", if_absent=True)
    with pytest.raises(StorageError):
        result.finish()
