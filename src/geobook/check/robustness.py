"""Self-checks of the chapter on units, noise and attacks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geobook import networks, robustness
from geobook.check._verdict import Verdict, agree, is_number, numbers_of
from geobook.evaluation import settle_norms
from geobook.validation import as_tensor

_STRENGTH = 0.1


def fast_gradient_sign(answer: Callable[[nn.Module, Tensor, Tensor, float], Tensor]) -> Verdict:
    """Check a function of (model, x, labels, strength) that returns the FGSM attack on x."""
    if not callable(answer):
        return Verdict(False, f"the answer must be a function, not {type(answer).__name__}.")
    for residual in (True, False):
        model, x, labels = _trained_like(residual)
        try:
            found = answer(model, x.clone(), labels, _STRENGTH)
        except Exception as error:
            return Verdict(False, f"your function raised {type(error).__name__}: {error}.")
        if found is None or found is Ellipsis:
            return Verdict(False, "your function returns nothing yet.")
        verdict = _same_attack(found, model, x, labels)
        if not verdict:
            return verdict
    return Verdict(True, "every pixel moves by the strength, the way that raises the loss.")


def hides_gradients(answer: Callable[[nn.Module], nn.Module]) -> Verdict:
    """Check a function that returns a network of the same answers against which FGSM is blind.

    FGSM here is that of the textbooks: the sign of the gradient that automatic differentiation
    finds for cross-entropy in double precision.
    """
    if not callable(answer):
        return Verdict(False, f"the answer must be a function, not {type(answer).__name__}.")
    model, x, labels = _trained_like(residual=True)
    model.requires_grad_(True)
    own = _right_after_textbook(model, x, labels)
    try:
        hidden = answer(model)
        if hidden is None or hidden is Ellipsis:
            return Verdict(False, "your function returns nothing yet.")
        if not isinstance(hidden, nn.Module):
            return Verdict(False, f"return a torch.nn.Module, not {type(hidden).__name__}.")
        same = bool((hidden.eval()(x).argmax(1) == labels).all())
        right = _right_after_textbook(hidden, x, labels)
    except Exception as error:
        return Verdict(False, f"that raised {type(error).__name__}: {error}.")
    if not same:
        return Verdict(False, "the answers changed: the greatest logit must stay the greatest.")
    transferred = robustness.fgsm(model, x, labels, _STRENGTH)
    wrong = float((hidden(transferred).argmax(1) != labels).double().mean() * 100)
    if right < 99:
        return Verdict(False, f"FGSM still brings the accuracy down to {right:.0f} % "
                              f"(from 100; it was {own:.0f} % before).")  # fmt: skip
    if wrong < 1:
        return Verdict(False, "the points that fool the original do not fool yours: it gives other "
                              "answers there.")  # fmt: skip
    return Verdict(True, f"FGSM reports {right:.0f} %, and yet the points that it finds with the "
                         f"original network fool yours {wrong:.0f} times in 100.")  # fmt: skip


def noise_flips(answer: Callable[[float, Sequence[float], float], float]) -> Verdict:
    """Check a function (margin, w, strength): how probably noise turns a linear network's answer.

    The network says "first class" where its margin is positive, and the margin's gradient is w.
    """
    cases = [(1.0, [3.0, 4.0], 0.5), (2.0, [1.0, -1.0, 2.0], 1.0), (0.1, [0.5], 3.0)]
    found = numbers_of(answer, cases)
    if isinstance(found, Verdict):
        return found
    right = [_below(-m / (s * math.hypot(*w))) for m, w, s in cases]
    if agree(found, right):
        return Verdict(True, "noise reaches the margin through the length of the gradient.")
    mistakes = {
        "that is how often the answer stays.": [1 - value for value in right],
        "independent noise adds up in squares: take the length of w, not the sum of its absolute "
        "values.": [_below(-m / (s * sum(map(abs, w)))) for m, w, s in cases],
        "the strength is a standard deviation, not a variance.": [
            _below(-m / (math.sqrt(s) * math.hypot(*w))) for m, w, s in cases
        ],
        "the noise goes through w before it meets the margin.": [
            _below(-m / s) for m, _, s in cases
        ],
        "noise in one direction only is dangerous: one tail, not two.": [
            2 * value for value in right
        ],
    }
    for hint, wrong in mistakes.items():
        if agree(found, wrong):
            return Verdict(False, hint)
    return Verdict(False, f"for margin 1, w = (3, 4) and strength 0.5 the probability is "
                          f"{right[0]:.4f}, your function gives {found[0]:.4f}.")  # fmt: skip


def quiet_states(answer: Callable[[networks.Network], networks.Network]) -> Verdict:
    """Check a function that lowers the variation rates of a plain network, not its function."""
    if not callable(answer):
        return Verdict(False, f"the answer must be a function, not {type(answer).__name__}.")
    model, x, _ = _trained_like(residual=False, norm="none")
    noisy = robustness.random_noise(x, 0.5, seed=3)
    with torch.no_grad():
        clean, answers = model(x), model(noisy)
    before = robustness.variation_rate(model, x, noisy)
    try:
        quiet = answer(_copy_of(model))
        if quiet is None or quiet is Ellipsis:
            return Verdict(False, "your function returns nothing yet.")
        after = robustness.variation_rate(quiet, x, noisy)
        with torch.no_grad():
            new = quiet.eval()(x), quiet(noisy)
    except Exception as error:
        return Verdict(False, f"that raised {type(error).__name__}: {error}.")
    if after.shape != before.shape:
        return Verdict(False, "keep the number of blocks.")
    scale = float(clean.abs().max())
    if any(float((a - b).abs().max()) > 0.01 * scale
           for a, b in zip(new, (clean, answers), strict=True)):  # fmt: skip
        return Verdict(False, "the network computes something else now: what a bias adds to a "
                              "state, the next one must take off.")  # fmt: skip
    inner = float((after / before)[1:-1].max())
    if inner > 0.1:
        return Verdict(False, f"a rate between the blocks is still {inner:.2f} times what it was; "
                              "a tenth is asked for.")  # fmt: skip
    return Verdict(True, f"the same answers to everything, and {1 / inner:.0f} times less "
                         "variation between the blocks.")  # fmt: skip


def common_survivors(answer: Callable[[Tensor, Tensor, Tensor, Tensor], Any]) -> Verdict:
    """Check a function (clean_a, clean_b, attacked_a, attacked_b) of right answers, as booleans.

    It must return for both networks the share of points, among those that both had right, which
    they still have right under attack.
    """
    if not callable(answer):
        return Verdict(False, f"the answer must be a function, not {type(answer).__name__}.")
    draw = torch.Generator().manual_seed(0)
    for points in (40, 101):
        clean = torch.rand(2, points, generator=draw) < 0.8
        attacked = torch.rand(2, points, generator=draw) < 0.6
        try:
            found = answer(clean[0], clean[1], attacked[0], attacked[1])
        except Exception as error:
            return Verdict(False, f"your function raised {type(error).__name__}: {error}.")
        if found is None or found is Ellipsis:
            return Verdict(False, "your function returns nothing yet.")
        try:
            shares = [float(value) for value in found]
        except (TypeError, ValueError):
            return Verdict(False, "return two numbers, one for each network.")
        verdict = _compared(shares, clean, attacked)
        if not verdict:
            return verdict
    return Verdict(True, "both networks are asked about the same points.")


def _compared(shares: list[float], clean: Tensor, attacked: Tensor) -> Verdict:
    both = clean.all(0)
    right = [float(part[both].double().mean()) for part in attacked]
    if len(shares) == 2 and agree(shares, right):
        return Verdict(True, "")
    if len(shares) != 2 or not all(is_number(value) for value in shares):
        return Verdict(False, "return two numbers, one for each network.")
    wrong = {
        "you count all points, those lost from the start included.": [
            float(part.double().mean()) for part in attacked
        ],
        "you ask each network about its own points; take those that both had right.": [
            float(a[c].double().mean()) for c, a in zip(clean, attacked, strict=True)
        ],
        "divide by the number of points that both had right, not by all.": [
            float((a & both).double().mean()) for a in attacked
        ],
        "return shares, not percentages.": [100 * value for value in right],
    }
    for hint, values in wrong.items():
        if agree(shares, values):
            return Verdict(False, hint)
    return Verdict(False, f"on a random example the shares are {right[0]:.3f} and {right[1]:.3f}, "
                          f"your function gives {shares[0]:.3f} and {shares[1]:.3f}.")  # fmt: skip


def _right_after_textbook(model: nn.Module, x: Tensor, labels: Tensor) -> float:
    """Accuracy in % after FGSM with the gradient that automatic differentiation finds."""
    inputs = x.clone().requires_grad_()
    loss = nn.functional.cross_entropy(model(inputs).double(), labels, reduction="sum")
    step = torch.autograd.grad(loss, inputs)[0].sign()
    with torch.no_grad():
        return float((model(x + _STRENGTH * step).argmax(1) == labels).double().mean() * 100)


def _trained_like(residual: bool, norm: str = "both") -> tuple[networks.Network, Tensor, Tensor]:
    """Return a network, points, and as labels what it says of them."""
    model = networks.build("digits", residual=residual, norm=norm, blocks=3, seed=4)
    x = torch.randn(200, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    settle_norms(model, x).eval()
    with torch.no_grad():
        return model, x, model(x).argmax(1)


def _copy_of(model: networks.Network) -> networks.Network:
    copy = networks.Network(model.architecture, model.residual).eval()
    copy.load_state_dict(model.state_dict())
    return copy


def _below(value: float) -> float:
    """Return the normal distribution function."""
    return 0.5 * math.erfc(-value / math.sqrt(2))


def _same_attack(found: Any, model: nn.Module, x: Tensor, labels: Tensor) -> Verdict:
    try:
        moved = as_tensor(found, "the attack")
    except (TypeError, ValueError) as error:
        return Verdict(False, f"{error}.")
    if moved.shape != x.shape:
        return Verdict(False, f"return images of shape {tuple(x.shape)}, not "
                              f"{tuple(moved.shape)}.")  # fmt: skip
    step, wanted = moved - x, robustness.fgsm(model, x, labels, _STRENGTH) - x
    if _close(step, wanted):
        return Verdict(True, "")
    if _close(step, -wanted):
        return Verdict(False, "you go downhill: the loss must grow.")
    if _close(step, wanted.sign()):
        return Verdict(False, "multiply the sign by the strength.")
    if _close(moved, wanted):
        return Verdict(False, "return the moved images, not the step alone.")
    sizes = step.abs().flatten()
    if float(sizes.std()) > 1e-3 * float(sizes.mean() + 1e-12):
        return Verdict(False, "every pixel must move by the same amount: take the sign of the "
                              "gradient, not the gradient.")  # fmt: skip
    return Verdict(False, "the signs differ from those of the gradient of the cross-entropy by "
                          "the image.")  # fmt: skip


def _close(one: Tensor, other: Tensor) -> bool:
    """Whether nearly all entries agree: a sign can tip over where a gradient is almost 0."""
    return float(((one - other).abs() < 1e-4).double().mean()) > 0.995
