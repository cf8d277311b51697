"""The self-checks of the chapter on units, noise and attacks: right, wrong and blank answers."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from geobook import check
from geobook.robustness import fgsm


def gradient(model, x, labels):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(nn.functional.cross_entropy(model(x), labels), x)[0]


def by_backward(model, x, labels, strength):
    inputs = x.clone().requires_grad_()
    nn.functional.cross_entropy(model(inputs), labels).backward()
    return inputs.detach() + strength * inputs.grad.sign()


class Scaled(nn.Module):
    def __init__(self, model, factor=1e6):
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, x):
        return self.factor * self.model(x)


class Deaf(Scaled):
    def forward(self, x):
        logits = self.model(x.detach()) + 0 * x.sum()
        return logits


def flips(margin, w, strength):
    return 0.5 * math.erfc(margin / (strength * math.hypot(*w)) / math.sqrt(2))


def by_normal(margin, w, strength):
    spread = strength * torch.tensor(w).norm()
    return torch.distributions.Normal(0.0, spread).cdf(torch.tensor(-margin))


def shifted(model, size=1000.0, undone=True):
    blocks = model.stages[0]
    with torch.no_grad():
        for block, following in pairwise(blocks):
            block.second.bias += size
            if undone:
                following.first.bias -= following.first.weight.sum(1) * size
    return model


def survivors(clean_a, clean_b, attacked_a, attacked_b):
    both = clean_a & clean_b
    return attacked_a[both].double().mean(), attacked_b[both].double().mean()


RIGHT = [
    (check.fast_gradient_sign, fgsm),
    (check.fast_gradient_sign, by_backward),
    (check.fast_gradient_sign, lambda m, x, y, s: x + s * gradient(m, x, y).sign()),
    (check.hides_gradients, Scaled),
    (check.hides_gradients, Deaf),
    (check.noise_flips, flips),
    (check.noise_flips, by_normal),
    (check.quiet_states, shifted),
    (check.common_survivors, survivors),
    (check.common_survivors, lambda a, b, c, d: [
        (c & a & b).sum() / (a & b).sum(), (d & a & b).sum() / (a & b).sum()]),
]  # fmt: skip
WRONG = [
    (check.fast_gradient_sign, lambda m, x, y, s: x - s * gradient(m, x, y).sign(), "downhill"),
    (check.fast_gradient_sign, lambda m, x, y, s: x + s * gradient(m, x, y), "the sign of"),
    (check.fast_gradient_sign, lambda m, x, y, s: x + gradient(m, x, y).sign(), "multiply"),
    (check.fast_gradient_sign, lambda m, x, y, s: s * gradient(m, x, y).sign(), "step alone"),
    (check.fast_gradient_sign, lambda m, x, y, s: x + s * x.sign(), "signs differ"),
    (check.fast_gradient_sign, lambda m, x, y, s: x[:3], "shape"),
    (check.fast_gradient_sign, lambda m, x, y, s: x / 0, "must be finite"),
    (check.fast_gradient_sign, lambda m, x, y, s: m.nonsense, "raised AttributeError"),
    (check.fast_gradient_sign, 3, "must be a function"),
    (check.hides_gradients, lambda m: m, "still brings"),
    (check.hides_gradients, lambda m: Scaled(m, -1.0), "answers changed"),
    (check.hides_gradients, lambda m: 3, "torch.nn.Module"),
    (check.hides_gradients, lambda m: 1 / 0, "raised ZeroDivisionError"),
    (check.hides_gradients, 3, "must be a function"),
    (check.noise_flips, lambda m, w, s: 1 - flips(m, w, s), "stays"),
    (check.noise_flips, lambda m, w, s: flips(m, [sum(map(abs, w))], s), "squares"),
    (check.noise_flips, lambda m, w, s: flips(m, w, math.sqrt(s)), "variance"),
    (check.noise_flips, lambda m, w, s: flips(m, [1.0], s), "goes through w"),
    (check.noise_flips, lambda m, w, s: 2 * flips(m, w, s), "one tail"),
    (check.noise_flips, lambda m, w, s: 0.3, "your function gives 0.3"),
    (check.quiet_states, lambda n: n, "still 1.00"),
    (check.quiet_states, lambda n: shifted(n, undone=False), "something else"),
    (check.quiet_states, lambda n: shifted(n, size=1.0), "a tenth"),
    (check.quiet_states, lambda n: 1 / 0, "raised ZeroDivisionError"),
    (check.quiet_states, lambda n: 3, "raised"),
    (check.quiet_states, 3, "must be a function"),
    (check.common_survivors, lambda a, b, c, d: (c.double().mean(), d.double().mean()), "lost"),
    (check.common_survivors, lambda a, b, c, d: (c[a].double().mean(), d[b].double().mean()),
     "its own points"),
    (check.common_survivors, lambda a, b, c, d: (
        (c & a & b).double().mean(), (d & a & b).double().mean()), "not by all"),
    (check.common_survivors, lambda a, b, c, d: [100 * v for v in survivors(a, b, c, d)],
     "percentages"),
    (check.common_survivors, lambda a, b, c, d: (0.5, 0.5), "your function gives 0.500"),
    (check.common_survivors, lambda a, b, c, d: 0.5, "two numbers"),
    (check.common_survivors, lambda a, b, c, d: (0.5, 0.5, 0.5), "two numbers"),
    (check.common_survivors, lambda a, b, c, d: 1 / 0, "raised ZeroDivisionError"),
    (check.common_survivors, 3, "must be a function"),
]  # fmt: skip
CHECKS = sorted({verify for verify, _ in RIGHT}, key=lambda verify: verify.__name__)


@pytest.mark.parametrize(("verify", "answer"), RIGHT)
def test_right_answers_pass(verify, answer):
    verdict = verify(answer)
    assert verdict, repr(verdict)
    assert "Right" in repr(verdict)


@pytest.mark.parametrize(("verify", "answer", "hint"), WRONG)
def test_wrong_answers_get_a_hint(verify, answer, hint):
    verdict = verify(answer)
    assert not verdict
    assert hint in repr(verdict)


@pytest.mark.parametrize("verify", CHECKS)
def test_blank_answers_are_told_apart(verify):
    assert "nothing yet" in repr(verify(lambda *_: ...))
    assert "nothing yet" in repr(verify(lambda *_: None))
