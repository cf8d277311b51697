"""Checks of what callers hand in: every error names the argument, what came, what was expected."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

Points = torch.Tensor | ArrayLike


def as_tensor(value: Points, name: str) -> torch.Tensor:
    """Turn an array or tensor into a floating-point tensor without NaN or infinity.

    float32 and float64 are kept, everything else becomes float32 (half precision) or
    float64 (integers and Python numbers).
    """
    try:
        # order="C": torch takes no negative strides, which a reversed array has
        tensor = (
            value
            if isinstance(value, torch.Tensor)
            else torch.as_tensor(np.asarray(value, order="C"))
        )
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be an array or tensor, not {type(value).__name__}") from error
    if tensor.is_complex():
        raise TypeError(f"{name} must hold real numbers, not {tensor.dtype}")
    if tensor.dtype in (torch.float16, torch.bfloat16):
        tensor = tensor.float()
    elif not tensor.is_floating_point():
        tensor = tensor.double()
    # The sum is infinite or NaN where a value is, and takes no memory; it may overflow, so look.
    if not bool(torch.isfinite(tensor.sum())) and not bool(torch.isfinite(tensor).all()):
        bad = int((~torch.isfinite(tensor)).sum())
        raise ValueError(f"{name} must be finite, but {bad} of its {tensor.numel()} values are not")
    return tensor.detach()


def as_points(value: Points, name: str, minimum: int = 2) -> torch.Tensor:
    """Turn a cloud of points (n, ...) into a tensor (n, d) with at least `minimum` points."""
    tensor = as_tensor(value, name)
    if tensor.ndim < 2:
        raise ValueError(f"{name} must have shape (points, ...), not {tuple(tensor.shape)}")
    if len(tensor) < minimum:
        raise ValueError(f"{name} must hold at least {minimum} points, not {len(tensor)}")
    return _with_coordinates(tensor.flatten(1), name)


def as_point_pair(x: Points, y: Points, minimum: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn two clouds of equally many points of equal dimension into tensors (n, d)."""
    first, second = as_points(x, "x", minimum), as_points(y, "y", minimum)
    if len(first) != len(second):
        raise ValueError(
            f"x and y must hold equally many points, not {len(first)} and {len(second)}"
        )
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"x and y must have the same dimension, not {first.shape[1]} and {second.shape[1]}"
        )
    dtype = torch.promote_types(first.dtype, second.dtype)
    return first.to(dtype), second.to(device=first.device, dtype=dtype)


def as_track(value: Points, name: str = "track") -> torch.Tensor:
    """Turn a track (L+1, n, ...) into a tensor (L+1, n, d) with at least one segment and point."""
    tensor = as_tensor(value, name)
    if tensor.ndim < 3:
        raise ValueError(f"{name} must have shape (layers, points, ...), not {tuple(tensor.shape)}")
    if len(tensor) < 2:
        raise ValueError(f"{name} must hold at least two layers, not {len(tensor)}")
    if tensor.shape[1] < 1:
        raise ValueError(f"{name} must hold at least one point, not 0")
    return _with_coordinates(tensor.flatten(2), name)


def non_negative(value: float, name: str) -> float:
    """Return `value` as a float, refusing negative, infinite and NaN."""
    number = _number(value, name)
    if not 0 <= number < float("inf"):
        raise ValueError(f"{name} must be a finite number of at least 0, not {value!r}")
    return number


def positive(value: float, name: str) -> float:
    """Return `value` as a float, refusing zero, negative, infinite and NaN."""
    number = _number(value, name)
    if not 0 < number < float("inf"):
        raise ValueError(f"{name} must be a finite number above 0, not {value!r}")
    return number


def count(value: int, name: str, minimum: int = 1) -> int:
    """Return `value` as an int of at least `minimum`, refusing fractions."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        raise ValueError(f"{name} must be a whole number of at least {minimum}, not {value!r}")
    return int(value)


def switch(value: bool, name: str) -> bool:
    """Return `value` if it is True or False, refusing everything else."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def one_of(value: Any, name: str, choices: Iterable[Any]) -> Any:
    """Return `value` if it is one of `choices`."""
    allowed = list(choices)
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
    return value


def _with_coordinates(flat: torch.Tensor, name: str) -> torch.Tensor:
    if flat.shape[-1] == 0:
        raise ValueError(f"{name} must hold points of at least one coordinate, not of none")
    return flat


def _number(value: float, name: str) -> float:
    if isinstance(value, str | bytes | bool):
        raise TypeError(f"{name} must be a number, not {value!r}")
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be a number, not {value!r}") from error
