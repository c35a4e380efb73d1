"""Packed tiles of a TIFF in a file that survives the process that writes it: what is in it is not computed again.

Each of several processes appends to a spool of its own; at the end one of them puts the tiles of all into the result,
as they are. A record is written whole before the next one, with checksums: a run that was killed loses the tail of a
spool, and what is torn there is not taken for a tile. Laws: what ``append`` returned from is found by the next opening
(after a loss of power, what was synced); a record whose checksum is wrong ends the spool; spools of another picture,
other options or another identity are refused.

``identity`` says what the tiles were made of (the pipeline's hash and the source's version, say): two runs with the
same one would write the same tiles.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelmill.errors import RunError, StorageUnavailable
from pixelmill.images.byte_sources import BytesSource
from pixelmill.images.disk_faults import disk_fault
from pixelmill.images.image import Size
from pixelmill.images.limits import RegionLimits
from pixelmill.images.region_grid import Grid
from pixelmill.images.region_options import TileTiffOptions
from pixelmill.images.region_places import FolderPlace, ResultPlace
from pixelmill.images.region_tiff import TiffReader
from pixelmill.images.region_tiff_writer import TiffWriter, check_tiles, packed_tile, tiff_writer
from pixelmill.images.regions import Raster, Region
from pixelmill.images.tiff_directories import TileTable, directories, header

_MAGIC = b"PXSPOOL1"
_RECORD = struct.Struct("<4sQQI")
_MARK = b"TILE"
_SUM = struct.Struct("<I")
_HEAD = _RECORD.size + _SUM.size
_PIECE = 4 << 20


class TileSpool:
    """One spool, open in one process; the file is made if it isn't there. ``done`` says which tiles are in it.

    Raises :class:`RunError` for a spool of other pixels or options, :class:`StorageUnavailable` for one that another
    process has open, :class:`StorageError`.
    """

    def __init__(self, path: Path, raster: Raster, options: TileTiffOptions, identity: str = "") -> None:
        check_tiles(raster, options)
        self.path, self.raster, self.options = path, raster, options
        self._start = _start(raster, options, identity)
        self.grid = Grid(raster.size, Size(options.tile, options.tile))
        self.done = np.zeros(len(self.grid), np.bool_)
        self._lock = threading.Lock()
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise disk_fault(error, "write", path) from error
        try:
            self._end = self._begin()
        except OSError as error:
            self.close()
            raise disk_fault(error, "write", path) from error
        except BaseException:
            self.close()
            raise

    def append(self, number: int, data: bytes) -> None:
        """Store a packed tile; one that is there already is left as it is. By several threads at once."""
        head = _RECORD.pack(_MARK, number, len(data), zlib.crc32(data))
        record = b"".join((head, _SUM.pack(zlib.crc32(head)), data))
        with self._lock:
            if self.done[number]:
                return
            try:
                _write_all(self._fd, record, self._end)
            except OSError as error:
                raise disk_fault(error, "write", self.path) from error
            self._end += len(record)
            self.done[number] = True

    def sync(self) -> None:
        """Put it on the disk."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise disk_fault(error, "write", self.path) from error

    def writer(self) -> SpoolWriter:
        """A :class:`RegionWriter` into this spool."""
        return SpoolWriter(self)

    def close(self) -> None:
        """Close the file; it stays. Harmless when repeated."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _begin(self) -> int:
        """Where the next record goes: behind the last whole one."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageUnavailable(f"The spool {self.path} is open in another process. Wait for its end.") from error
        start = self._start
        # A spool that was killed at its birth has not even this; nothing of it is lost.
        if os.fstat(self._fd).st_size < len(start):
            os.ftruncate(self._fd, 0)
            _write_all(self._fd, start, 0)
            return len(start)
        _check_start(self._fd, self.path, start)
        end = len(start)
        for number, at, length in _records(self._fd, len(start), len(self.grid)):
            self.done[number] = True
            end = at + length
        os.ftruncate(self._fd, end)
        return end


class SpoolWriter:
    """Packs tiles in the calling threads and appends them; ``finish`` syncs the spool, which is no result yet."""

    in_order = False

    def __init__(self, spool: TileSpool) -> None:
        self._spool = spool

    @property
    def unit(self) -> Size:
        """A tile."""
        return self._spool.grid.unit

    def write(self, region: Region, pixels: NDArray[Any]) -> None:
        """Pack the tiles of a region that are not done."""
        spool = self._spool
        for number, place in spool.grid.units(region):
            if not spool.done[number]:
                spool.append(number, packed_tile(place.of(pixels, region), spool.raster, spool.options))

    def finish(self) -> None:
        """Put the spool on the disk."""
        self._spool.sync()

    def abort(self) -> None:
        """Leave the spool for the next attempt."""


def tiles_done(
    paths: Sequence[Path], raster: Raster, options: TileTiffOptions, identity: str = ""
) -> NDArray[np.bool_]:
    """Which tiles are in any of these spools (of which some may not be there): all of their checksums are looked at.

    Raises as opening them does. They must not be written to meanwhile.
    """
    done = np.zeros(len(Grid(raster.size, Size(options.tile, options.tile))), np.bool_)
    for path in paths:
        if path.exists():
            spool = TileSpool(path, raster, options, identity)
            done |= spool.done
            spool.close()
    return done


def assemble(
    dest: Path | ResultPlace,
    paths: Sequence[Path],
    raster: Raster,
    options: TileTiffOptions,
    identity: str = "",
    *,
    if_absent: bool = False,
) -> None:
    """The TIFF ``dest`` of the tiles in these spools, as they are; copies of a pyramid are made of them here.

    It has its name when it is whole. The spools stay: remove them after it. Raises :class:`RunError` where tiles are
    missing, :class:`StorageError`.
    """
    writer = tiff_writer(FolderPlace(dest, if_absent=if_absent) if isinstance(dest, Path) else dest, raster, options)
    try:
        places = _places(
            paths, _start(raster, options, identity), len(Grid(raster.size, Size(options.tile, options.tile)))
        )
        _copy(writer, places, raster, options)
        writer.finish()
    except BaseException:
        writer.abort()
        raise


def _places(paths: Sequence[Path], start: bytes, tiles: int) -> dict[int, tuple[Path, int, int]]:
    """Spool, place and length of each tile."""
    found: dict[int, tuple[Path, int, int]] = {}
    for path in paths:
        if not path.exists():
            continue
        with path.open("rb") as file:
            _check_start(file.fileno(), path, start)
            for number, at, length in _records(file.fileno(), len(start), tiles):
                found.setdefault(number, (path, at, length))
    if len(found) < tiles:
        raise RunError(f"{tiles - len(found):,} of {tiles:,} tiles are missing in the spools. Run it again for those.")
    return found


def _copy(
    writer: TiffWriter, places: dict[int, tuple[Path, int, int]], raster: Raster, options: TileTiffOptions
) -> None:
    files = {path: path.open("rb") for path in {path for path, _, _ in places.values()}}
    try:
        for number in sorted(places):
            path, at, length = places[number]
            data = os.pread(files[path].fileno(), length, at)
            writer.put_packed(0, number, data)
            if options.pyramid:
                writer.feed(number, unpacked_tile(data, number, raster, options))
    except OSError as error:
        raise disk_fault(error, "read", "a spool") from error
    finally:
        for file in files.values():
            file.close()


def unpacked_tile(data: bytes, number: int, raster: Raster, options: TileTiffOptions) -> NDArray[Any]:
    """The pixels of a packed tile, cut at the picture's edges: the file of this tile alone is read."""
    place = Grid(raster.size, Size(options.tile, options.tile)).place(number)
    size = Size(place.width, place.height)
    table = TileTable(size, np.array([8], np.uint64), np.array([len(data)], np.uint64))
    at = 8 + len(data) + (len(data) & 1)
    alone = Raster(size, raster.channels, raster.dtype)
    parts = (header(False, at), data, bytes(len(data) & 1), directories(alone, options, [table], at, big=False))
    reader = TiffReader(BytesSource(b"".join(parts)), RegionLimits(), cache_bytes=0)
    return reader.read(Region(0, 0, *size))


def _start(raster: Raster, options: TileTiffOptions, identity: str) -> bytes:
    """The first bytes of a spool: what its tiles belong to."""
    facts = {
        "identity": identity,
        "size": list(raster.size),
        "channels": raster.channels,
        "dtype": raster.dtype.str,
        "icc": hashlib.sha256(raster.icc or b"").hexdigest(),
        # What tiles are packed with; the layout around them may be chosen later.
        "options": options.model_dump(include={"compression", "predictor", "tile", "level", "quality"}),
    }
    text = json.dumps(facts, sort_keys=True).encode()
    return _MAGIC + struct.pack("<II", len(text), zlib.crc32(text)) + text


def _check_start(fd: int, path: Path, start: bytes) -> None:
    if os.pread(fd, len(start), 0) != start:
        raise RunError(f"The spool {path} is of another picture, pipeline or options. Remove it, and run again.")


def _records(fd: int, start: int, tiles: int) -> Iterator[tuple[int, int, int]]:
    """Tile, place and length of each whole record; the first that is not ends them."""
    end = os.fstat(fd).st_size
    while start + _HEAD <= end:
        head = os.pread(fd, _HEAD, start)
        mark, number, length, wanted = _RECORD.unpack(head[: _RECORD.size])
        if mark != _MARK or _SUM.unpack(head[_RECORD.size :])[0] != zlib.crc32(head[: _RECORD.size]):
            return
        start += _HEAD
        if number >= tiles or start + length > end:
            return
        found = 0
        for at in range(start, start + length, _PIECE):
            found = zlib.crc32(os.pread(fd, min(_PIECE, start + length - at), at), found)
        if found != wanted:
            return
        yield number, start, length
        start += length


def _write_all(fd: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, at)
        view, at = view[done:], at + done
