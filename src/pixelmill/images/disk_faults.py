"""What goes wrong with files of images that are read and written by regions, in the words of the error tree."""

from __future__ import annotations

import errno

from pixelmill.errors import ObjectNotFound, StorageDenied, StorageError, StorageFull, StorageUnavailable

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.EOPNOTSUPP})
_AWAY = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENODEV, errno.ENOTCONN, errno.ENXIO, errno.EBUSY})


def disk_fault(error: OSError, verb: str, what: object) -> StorageError:
    """The error of the tree for an OS error that came when we wanted to ``verb`` (read, write) the file ``what``."""
    reason = error.strerror or str(error)
    code = error.errno or 0
    if code == errno.ENOENT and verb == "read":
        return ObjectNotFound(f"There is no file {what}.", key=str(what))
    cls, advice = StorageError, "Check the path and the disk."
    if code in _FULL:
        cls, advice = StorageFull, "Free some space, raise the quota, or write to another disk."
    elif code in _DENIED:
        cls, advice = StorageDenied, "Check the rights of the file and of its folder."
    elif code in _AWAY:
        cls, advice = StorageUnavailable, "Check the disk or the network mount."
    elif code in (errno.EMFILE, errno.ENFILE):
        cls, advice = StorageUnavailable, "Too many files are open; raise `ulimit -n`."
    return cls(f"Could not {verb} {what}: {reason}. {advice}", key=str(what), errno=error.errno)
