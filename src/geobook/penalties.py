"""Training with the kinetic energy itself as the penalty, in place of weight decay.

Weight decay bounds the kinetic energy of the tracks from above (eqs. (10) to (12)). What the
theory asks for is the energy: cross-entropy + kappa * E, with E that of the batch's tracks,

    E = L sum_l (1/n) sum_i |x_i^l - x_i^{l-1}|^2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from geobook import networks
from geobook.networks import Architecture, Network
from geobook.stacks import member_state, stack
from geobook.training import Diverged, Recipe, Trainer, TrainingResult
from geobook.validation import count, non_negative


def batch_energies(network: Network, x: Tensor, members: int = 1) -> tuple[Tensor, Tensor]:
    """Run a network or a stack; logits, and the kinetic energy of the tracks of every member.

    Parameters
    ----------
    network : Network
        A network, or a stack of E side by side (see `geobook.stacks`).
    x : tensor, shape (n, ...)
        Inputs.
    members : int
        E.

    Returns
    -------
    logits : tensor, shape (n, E * classes)
    energies : tensor, shape (E,)
        Summed over the stages, each run in unit time. Differentiable.
    """
    states: dict[int, list[Tensor]] = {}
    for stage, state in network.states(x):
        states.setdefault(stage, []).append(state)
    energies = torch.zeros(count(members, "members"), device=x.device)
    for track in states.values():
        squares = sum((after - before).square() for before, after in pairwise(track))
        energies = energies + (len(track) - 1) * squares.view(len(x), members, -1).sum(2).mean(0)
    return network.head(track[-1]), energies


class EnergyTrainer(Trainer):
    """The training loop of `geobook.training.Trainer` with kappa * E added to the loss.

    Parameters
    ----------
    kappas : sequence of float
        Coefficient of the energy, one for every network.
    *args, **options
        As for `Trainer`.
    """

    def __init__(self, *args: Any, kappas: Sequence[float], **options: Any) -> None:
        super().__init__(*args, **options)
        values = [non_negative(kappa, "kappas") for kappa in kappas]
        if len(values) != self.members:
            raise ValueError(f"kappas must hold {self.members} values, not {len(values)}")
        self.kappas = torch.tensor(values, device=self.images.device)

    def _forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        logits, energies = batch_energies(self.model, inputs, self.members)
        return logits, self.kappas * energies


def train_with_energy(
    model: Network,
    data: Iterable[Tensor],
    kappa: float,
    recipe: Recipe | None = None,
    *,
    test: Iterable[Tensor] | None = None,
    score_every: int = 1,
) -> TrainingResult:
    """Train a network, in place, on cross-entropy + kappa * kinetic energy.

    Parameters
    ----------
    model : Network
        The network.
    data : Dataset or pair of tensors
        Inputs (n, ...) and labels (n,).
    kappa : float
        Coefficient of the energy; 0 is plain training.
    recipe : Recipe, optional
        How to train; its weight decay comes on top.
    test : Dataset or pair of tensors, optional
        Held-out points for the test accuracy.
    score_every : int
        As for `geobook.train`.

    Returns
    -------
    TrainingResult
        The losses of its history are cross-entropies, without the penalty.

    Raises
    ------
    Diverged
        If loss or weights become infinite or NaN.
    ValueError
        If kappa is negative, or the data do not fit.
    """
    if not isinstance(model, Network):
        raise TypeError(f"model must be a Network, not {type(model).__name__}")
    recipe = Recipe() if recipe is None else recipe
    trainer = EnergyTrainer(
        model, data, [recipe], kappas=[kappa], test=test, score_every=score_every
    )
    while trainer.epoch < recipe.epochs:
        trainer.run_epoch()
        if trainer.diverged[0]:
            raise Diverged(trainer.diverged[0])
    model.eval()
    return TrainingResult(model, recipe, trainer.histories[0])


def energy_sweep(
    architecture: Architecture,
    data: Iterable[Tensor],
    recipes: Sequence[Recipe],
    kappas: Sequence[float],
    *,
    residual: bool,
) -> list[tuple[Network, str | None]]:
    """Train several small networks as one stack, one for each recipe and coefficient.

    Parameters
    ----------
    architecture : Architecture
        Fully connected.
    data : Dataset or pair of tensors
        Inputs (n, ...) and labels (n,).
    recipes : sequence of Recipe
        They may differ in weight decay and seed; the seed decides the initial weights too.
    kappas : sequence of float
        Coefficients of the energy, one for each recipe.
    residual : bool
        Which kind.

    Returns
    -------
    list of (Network, str or None)
        Every trained network, in evaluation mode, and what went wrong if it diverged.
    """
    built = [networks.build(architecture, residual=residual, seed=r.seed) for r in recipes]
    members = len(built)
    whole = built[0] if members == 1 else stack(built)
    trainer = EnergyTrainer(
        whole, data, recipes, kappas=kappas, score_points=0, score_every=recipes[0].epochs
    )
    while trainer.epoch < recipes[0].epochs:
        trainer.run_epoch()
    if members > 1:
        for member, network in enumerate(built):
            network.load_state_dict(member_state(whole, member, members))
    return [(n.eval(), bad) for n, bad in zip(built, trainer.diverged, strict=True)]
