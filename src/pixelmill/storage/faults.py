"""What goes wrong in stores, in the words of the error tree: errno and obstore exceptions are translated here only."""

from __future__ import annotations

import errno

from pixelmill.errors import (
    InvalidURI,
    LimitExceeded,
    ObjectNotFound,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageUnavailable,
)

_BY_ERRNO: dict[int, tuple[type[StorageError], str]] = {
    code: (cls, advice)
    for codes, cls, advice in (
        (
            (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
            StorageFull,
            "Free some space, raise the quota, or delete old jobs.",
        ),
        (
            (errno.EROFS, errno.EACCES, errno.EPERM, errno.EOPNOTSUPP),
            StorageDenied,
            "Check that the folder is mounted for writing and belongs to the user that runs Pixelmill.",
        ),
        ((errno.ENAMETOOLONG,), InvalidURI, "Use a shorter name or a data folder that lies less deep."),
        ((errno.ELOOP,), StorageDenied, "Symbolic links inside a store are not followed; use a mount instead."),
        (
            (errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY),
            InvalidURI,
            "In a folder, a name can't be an object and a folder at once; use another key.",
        ),
        ((errno.EMFILE, errno.ENFILE), StorageUnavailable, "Too many open files; raise `ulimit -n`."),
        (
            (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENODEV, errno.ENOTCONN, errno.ENXIO, errno.EBUSY),
            StorageUnavailable,
            "Check the disk or the network mount.",
        ),
    )
    for code in codes
}


def translated(error: OSError, verb: str, what: str) -> StorageError:
    """The error of the tree for an OS error that came when we wanted to ``verb`` (read, write ...) ``what``."""
    reason = error.strerror or str(error)
    if error.errno == errno.ENOENT:
        if verb == "read":
            return ObjectNotFound(f"There is no object {what} in the store. It may have been deleted.", key=what)
        return StorageUnavailable(
            f"Could not {verb} {what}: its folder vanished. Check that the data folder is mounted.", key=what
        )
    cls, advice = _BY_ERRNO.get(error.errno or 0, (StorageError, "Check the disk."))
    return cls(f"Could not {verb} {what}: {reason}. {advice}", key=what, errno=error.errno)


def check_bytes(value: int, maximum: int | None) -> None:
    """Raise :class:`LimitExceeded` if ``value`` bytes have arrived and fewer are allowed (None: any number)."""
    if maximum is None or value <= maximum:
        return
    raise LimitExceeded(
        f"More than the allowed {maximum:,} bytes arrived. Send a smaller file, or raise the limit.",
        limit="bytes",
        value=value,
        maximum=maximum,
    )
