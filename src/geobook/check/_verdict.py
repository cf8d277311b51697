"""What a self-check answers, and how it reads the answers it is given."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Verdict:
    """What a check found: true if the answer is right.

    Parameters
    ----------
    right : bool
        Whether the answer is correct.
    message : str
        What was confirmed, or a hint on what is wrong.
    """

    right: bool
    message: str

    def __bool__(self) -> bool:
        """Return whether the answer is right."""
        return self.right

    def __repr__(self) -> str:
        """Return the verdict as one line."""
        return f"{'Right' if self.right else 'Not yet'}: {self.message}"


def numbers_of(answer: Callable[..., Any], cases: list[tuple[Any, ...]]) -> list[float] | Verdict:
    """Call `answer` on every case; a Verdict instead of numbers where that does not work."""
    if not callable(answer):
        return Verdict(False, f"the answer must be a function, not {type(answer).__name__}.")
    values = []
    for case in cases:
        try:
            value = answer(*case)
        except Exception as error:
            return Verdict(False, f"your function raised {type(error).__name__}: {error}.")
        if value is None or value is Ellipsis:
            return Verdict(False, "your function returns nothing yet.")
        if not is_number(value):
            return Verdict(
                False, f"your function must return one number, not {type(value).__name__}."
            )
        values.append(float(value))
    return values


def is_number(value: Any) -> bool:
    if isinstance(value, Tensor | np.ndarray):
        return math.prod(value.shape) == 1
    return isinstance(value, int | float | np.number)


def agree(found: list[float], wanted: list[float], tolerance: float = 1e-4) -> bool:
    return bool(np.allclose(found, wanted, rtol=tolerance, atol=tolerance))
