"""Alpha matting: from a mask to the transparency and the own colors of hair and other soft edges.

Closed-form matting (Levin, Lischinski and Weiss 2008) and the multi-level estimate of the foreground (Germer et al.
2020), both of PyMatting (the extra ``ml``), around the unsure band of a mask.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelmill.errors import MissingExtra

COMMAND = "pip install 'pixelmill[ml]'"
_SURE, _SURELY_NOT = 240, 10
"""Levels of a mask above and below which a pixel is certain, and how far inside such an area, as rembg has them."""
_EROSION = 10
_SIDE = 640
"""The system is solved at no more pixels a side: it takes 1 kB a pixel at its peak."""
_NONZEROS = (120, 20_000_000)
"""Entries that the preconditioner may have, a pixel and in all. PyMatting's own bound asks for 4 GB at once."""
_AROUND = 8  # certain pixels around the unsure ones that the system sees
_PACKAGES = ("", ".util", ".alpha", ".laplacian", ".preconditioner", ".solver", ".foreground")
_ALPHA = "pymatting.alpha.estimate_alpha_cf"
_FOREGROUND = "pymatting.foreground.estimate_foreground_ml"
_PRECONDITIONER = "pymatting.preconditioner.ichol"


class Matte(NamedTuple):
    """Transparency from 0 to 1, ``H×W``, and the colors of what is in front, ``H×W×3``, of 8 bits."""

    alpha: NDArray[np.float32]
    colors: NDArray[np.uint8]


class _Solvers(NamedTuple):
    alpha: Callable[..., NDArray[Any]]
    foreground: Callable[..., NDArray[Any]]
    cholesky: Callable[..., Any]

    def bounded(self, system: Any) -> Any:
        """The preconditioner of a system: incomplete Cholesky, and Jacobi's where that would get too large."""
        a_pixel, in_all = _NONZEROS
        try:
            return self.cholesky(system, max_nnz=min(in_all, a_pixel * system.shape[0] + 1_000))
        except ValueError:
            diagonal = 1 / np.maximum(system.diagonal(), 1e-12)
            return lambda vector: diagonal * vector


def is_installed() -> bool:
    """Whether PyMatting is there; it is not imported."""
    return importlib.util.find_spec("pymatting") is not None


def matte(rgb: NDArray[np.uint8], mask: NDArray[np.uint8]) -> Matte | None:
    """The matte around the unsure parts of a mask; None where it has no sure object, or no sure background.

    Raises :class:`MissingExtra`.
    """
    solvers = _solvers()
    sure = _eroded(mask > _SURE, outside=0)
    surely_not = _eroded(mask < _SURELY_NOT, outside=1)
    if not sure.any() or not surely_not.any():
        return None
    trimap = np.full(mask.shape, 0.5)
    trimap[sure], trimap[surely_not] = 1.0, 0.0
    height, width = mask.shape
    scale = min(1.0, _SIDE / max(width, height))
    small, known = rgb, trimap
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
        known = np.asarray(cv2.resize(trimap, size, interpolation=cv2.INTER_AREA))
        known = np.select([known < 1e-3, known > 1 - 1e-3], [0.0, 1.0], 0.5)  # what is between was one of both
    colors = small / 255.0
    alpha = known.copy()
    part = _around(known == 0.5)
    try:
        alpha[part] = solvers.alpha(colors[part], known[part], preconditioner=solvers.bounded)
    except ValueError:  # the solver does not converge
        return None
    front = solvers.foreground(colors, alpha)
    if scale < 1:
        alpha = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_LINEAR)
        front = cv2.resize(front, (width, height), interpolation=cv2.INTER_LINEAR)
    return Matte(np.clip(alpha, 0, 1).astype(np.float32), np.clip(front * 255 + 0.5, 0, 255).astype(np.uint8))


def _around(unsure: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns of what is unsure, and a little more; everything where nothing is."""
    x, y, width, height = cv2.boundingRect(unsure.astype(np.uint8))
    if not width:
        return np.s_[:, :]
    return np.s_[max(0, y - _AROUND) : y + height + _AROUND, max(0, x - _AROUND) : x + width + _AROUND]


def _eroded(area: NDArray[np.bool_], *, outside: int) -> NDArray[np.bool_]:
    kernel = np.ones((_EROSION, _EROSION), np.uint8)
    done = cv2.erode(area.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=outside)
    return np.asarray(done > 0)


_import_lock = threading.Lock()


def _solvers() -> _Solvers:
    """The two functions that are needed, without the rest of PyMatting.

    Its packages import every method that it has, and numba compiles all of them when they are imported first: 46 CPU
    seconds here, against 10 for these two (1 once they are in numba's cache on the disk). So empty packages stand in
    for them while the two modules are imported.
    """
    with _import_lock:
        if _FOREGROUND not in sys.modules:
            _import_parts()
        alpha, foreground = importlib.import_module(_ALPHA), importlib.import_module(_FOREGROUND)
        preconditioner = importlib.import_module(_PRECONDITIONER)
    return _Solvers(alpha.estimate_alpha_cf, foreground.estimate_foreground_ml, preconditioner.ichol)


def _import_parts() -> None:
    stand_ins: list[str] = []
    try:
        for part in _PACKAGES:
            name = f"pymatting{part}"
            spec = importlib.util.find_spec(name)
            if spec is not None and name not in sys.modules:
                sys.modules[name] = importlib.util.module_from_spec(spec)
                stand_ins.append(name)
        importlib.import_module(_ALPHA)
        importlib.import_module(_FOREGROUND)
    except ImportError as error:
        raise MissingExtra(
            f"Alpha matting needs an extra that is not installed here. Install it: {COMMAND}", extra="ml"
        ) from error
    finally:
        for name in stand_ins:
            del sys.modules[name]
