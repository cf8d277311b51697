"""Self-checks of the chapter on handwritten digits."""

from __future__ import annotations

from collections.abc import Callable

from geobook.check._verdict import Verdict, agree, numbers_of


def transition_weight_decay(answer: Callable[[list[float], float], float]) -> Verdict:
    """Check the rule lambda* = (1 - momentum) / sum of the learning rates."""
    cases = [([0.1] * 10, 0.0), ([0.05] * 100, 0.9), ([0.2, 0.1, 0.05], 0.5)]
    found = numbers_of(answer, cases)
    if isinstance(found, Verdict):
        return found
    right = [(1 - momentum) / sum(rates) for rates, momentum in cases]
    if agree(found, right):
        return Verdict(True, "the weights have time to decay by a factor e, once.")
    if agree(found, [1 / sum(rates) for rates, _ in cases]):
        return Verdict(False, "momentum m makes every step count 1 / (1 - m) times.")
    return Verdict(False, f"ten steps of 0.1 without momentum give 1, "
                          f"your function gives {found[0]:.4f}.")  # fmt: skip
