"""Optimal transport as a flow of least kinetic energy, on a 2-D grid and over time.

Benamou and Brenier (the paper's eq. (8)) write the squared Wasserstein distance as

    W2^2(mu_0, mu_1) = min  int_0^1 int |m|^2 / f dx dt   subject to   d_t f + div m = 0,

with densities f from mu_0 to mu_1, momenta m = f v, and no flow through the walls of the box. In
(f, m) this is a convex problem, solved here by proximal splitting on a staggered grid (Papadakis,
Peyre, Oudet: Optimal transport with proximal splitting, SIAM J. Imaging Sciences 7, 2014):

- the *staggered* unknowns, densities at time nodes and momenta on cell walls, are projected onto
  the continuity equation by one Poisson solve with discrete cosine transforms;
- the *centred* unknowns, interpolated to the middle of each cell of space-time, take the proximal
  step of the kinetic energy, which is the largest root of a cubic in each cell;
- the over-relaxed primal-dual iteration (Chambolle and Pock 2011, Condat 2013) makes them agree.

**Conventions.** Both densities are scaled to total mass 1, so that the energy is W2^2 in squared
units of length. Cells are centred, values are averages over cells, and axis 1 of an array is x,
axis 2 is y, axis 0 is time.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm.auto import tqdm

from geobook import memory
from geobook.validation import as_tensor, count, one_of, positive

Array = NDArray[np.float64]

_NUMBERS_PER_CELL = 30  # float64 arrays of the grid's size that are alive at once, at most
_NEWTON_STEPS = 60
_PIECE = 8192
_FIRST_SIGMA, _TUNED_SIGMA, _SIGMA_RANGE, _TUNED_AFTER = 0.4, 0.3, (0.2, 3.2), 10
_NOTHING = 1e-12  # relative to a mean density of 1 and quarters of the box


class NotConverged(RuntimeError):  # noqa: N818 - reads as what happened
    """The stopping criterion was not met within the allowed number of iterations.

    Attributes
    ----------
    result : DynamicTransport
        What had been reached, with ``converged = False``.
    """

    def __init__(self, message: str, result: DynamicTransport) -> None:
        super().__init__(message)
        self.result = result


class Staggered(NamedTuple):
    """Unknowns where the continuity equation lives: between the cells.

    ``density`` (time_steps + 1, nx, ny) stands at the time nodes 0, 1/time_steps, ..., 1;
    ``momentum_x`` (time_steps, nx + 1, ny) on the walls across x, ``momentum_y``
    (time_steps, nx, ny + 1) on the walls across y.
    """

    density: Array
    momentum_x: Array
    momentum_y: Array


@dataclass(frozen=True)
class History:
    """What was recorded on the way, once every ``check_every`` iterations.

    Attributes
    ----------
    iteration : ndarray of int, shape (checks,)
        Iterations done.
    energy : ndarray, shape (checks,)
        Kinetic energy.
    distance : ndarray, shape (checks,)
        How far the two sets of unknowns disagree, relative; see `benamou_brenier`.
    step : ndarray, shape (checks,)
        How far the staggered unknowns moved in one iteration, relative.
    energy_change : ndarray, shape (checks,)
        Relative change of the energy since the check before; infinite at first.
    seconds : ndarray, shape (checks,)
        Wall-clock time since the start.
    """

    iteration: NDArray[np.int64]
    energy: Array
    distance: Array
    step: Array
    energy_change: Array
    seconds: Array


@dataclass(frozen=True)
class DynamicTransport:
    """A flow of least kinetic energy from one density to another.

    Attributes
    ----------
    density : ndarray, shape (time_steps, nx, ny)
        At the middle of each time step, never negative; integral 1 up to the tolerance. See
        `path` for the same with both ends.
    momentum : ndarray, shape (time_steps, 2, nx, ny)
        Density times velocity at the same places; zero where the density is zero.
    energy : float
        int_0^1 int |m|^2 / f dx dt of these two, with mass 1: W2^2 at convergence.
    times : ndarray, shape (time_steps,)
        Middle of each time step: 1/(2 time_steps), 3/(2 time_steps), ...
    spacing : (float, float)
        Width of a cell in x and y.
    start, end : ndarray, shape (nx, ny)
        The given densities, scaled to integral 1.
    staggered : Staggered
        The unknowns that satisfy the continuity equation, no flow through the walls and both ends
        to rounding. Before convergence their density dips below zero, at the default
        tolerance by up to a tenth of its mean: draw `density`, which never does.
    continuity_residual : float
        Largest |d_t f + div m| of `staggered`, over all cells and relative to the mean density:
        rounding errors only.
    history : History
        Energies and residuals of the iteration.
    iterations : int
        How many were done.
    converged : bool
        Whether the stopping criterion was met.
    """

    density: Array
    momentum: Array
    energy: float
    times: Array
    spacing: tuple[float, float]
    start: Array
    end: Array
    staggered: Staggered
    continuity_residual: float
    history: History
    iterations: int
    converged: bool

    @property
    def wasserstein2(self) -> float:
        """Square root of the energy, W2 at convergence, in units of length."""
        return float(np.sqrt(self.energy))

    def velocity(self, floor: float = 0.0) -> Array:
        """Velocity of the flow, momentum over density.

        Parameters
        ----------
        floor : float
            Where the density is at most this share of its mean over the box, the velocity is set
            to zero: there it carries next to no mass and next to no meaning.

        Returns
        -------
        ndarray, shape (time_steps, 2, nx, ny)
            Length per unit of time.

        Raises
        ------
        ValueError
            If `floor` is negative or not finite.
        """
        if not 0 <= floor < np.inf:
            raise ValueError(f"floor must be a finite number of at least 0, not {floor!r}")
        moving = self.density > floor * self.start.mean()
        safe = np.where(moving, self.density, 1.0)
        return self.momentum * (moving / safe)[:, None]

    def path(self) -> tuple[Array, Array]:
        """Join the given ends to the times and densities.

        Returns
        -------
        times : ndarray, shape (time_steps + 2,)
            0, the middle of each time step, 1.
        density : ndarray, shape (time_steps + 2, nx, ny)
            The given densities at the ends, `density` between them.
        """
        times = np.concatenate([[0.0], self.times, [1.0]])
        return times, np.concatenate([self.start[None], self.density, self.end[None]])


def benamou_brenier(
    mu0: ArrayLike,
    mu1: ArrayLike,
    *,
    time_steps: int = 32,
    spacing: float | Sequence[float] | None = None,
    tolerance: float = 1e-3,
    max_iterations: int = 2000,
    sigma: float | None = None,
    relaxation: float = 1.8,
    check_every: int = 5,
    unconverged: str = "raise",
    progress: bool = False,
) -> DynamicTransport:
    """Flow of least kinetic energy from one density to another (the paper's eq. (8)).

    Works in float64. The iteration stops at a check where all three are small:

    - ``distance``, between the densities and momenta that satisfy the continuity equation and
      those of least energy, at most `tolerance`: root mean squares, relative to their size, the
      larger of that for densities and that for momenta;
    - ``step``, what one iteration changes in the first of these, at most `tolerance`, likewise;
    - ``energy_change`` from the check before, relative, at most a tenth of the tolerance.

    Parameters
    ----------
    mu0, mu1 : array, shape (nx, ny)
        Densities, or masses of cells, not negative; of equal mass to within one part in a
        million. Both are scaled to mass 1. At least 2 cells each way; nx and ny may differ.
    time_steps : int
        Steps of the time grid, at least 2.
    spacing : float or (float, float), optional
        Width of a cell in x and y. Without it the box is the unit square.
    tolerance : float
        Of the stopping criterion. 1e-2 is enough for a look, 1e-3 brings the energy to about
        0.3 % of what the grid can tell.
    max_iterations : int
        When to give up.
    sigma : float, optional
        Step size of the iteration, with lengths counted in quarters of the box; it decides how
        quick the iteration is and not where it ends. Without it, chosen after a few iterations
        from the distance W2 found so far.
    relaxation : float
        Over-relaxation, above 0 and below 2.
    check_every : int
        Iterations between two checks of the criterion.
    unconverged : {"raise", "warn"}
        What to do when the criterion was not met: raise `NotConverged`, or warn and return the
        result with ``converged = False``.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    DynamicTransport

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; if the masses differ.
    MemoryError
        If the arrays would not fit; about 240 bytes are needed for each cell and time step.
    NotConverged
        See `unconverged`.

    Notes
    -----
    The energy of the grid's problem differs from W2^2 of the continuum, and from the exact cost
    between the cells' centres, by an error of the grid that shrinks with it: for densities with
    details of a tenth of the box, by 4, 2 and 0.5 % on grids of 8, 16 and 32 cells a side and in
    time. Details of a cell or two are beyond it.

    Examples
    --------
    >>> x = np.linspace(0, 1, 33)[1:] - 1 / 64
    >>> bump = lambda a: np.exp(-((x[:, None] - a) ** 2 + (x - 0.5) ** 2) / (2 * 0.1**2))
    >>> flow = benamou_brenier(bump(0.4), bump(0.6), time_steps=8)
    >>> print(f"{flow.energy:.3f}")
    0.040
    """
    start, end = _density_pair(mu0, mu1)
    steps = count(time_steps, "time_steps", 2)
    widths = _spacing(spacing, start.shape)
    positive(tolerance, "tolerance")
    count(max_iterations, "max_iterations")
    count(check_every, "check_every")
    one_of(unconverged, "unconverged", ("raise", "warn"))
    if sigma is not None:
        positive(sigma, "sigma")
    if not 0 < positive(relaxation, "relaxation") < 2:
        raise ValueError(f"relaxation must be above 0 and below 2, not {relaxation!r}")
    memory.require(
        _NUMBERS_PER_CELL * 8 * steps * start.size,
        "cpu",
        f"a grid of {steps} x {start.shape[0]} x {start.shape[1]} cells",
        "take fewer time steps or coarser densities",
    )
    iteration = _Iteration(start, end, steps, widths, sigma, relaxation)
    records, converged = _iterate(iteration, tolerance, max_iterations, check_every, progress)
    result = _result(iteration, records, converged)
    if not converged:
        _complain(result, tolerance, unconverged)
    return result


class _Iteration:
    """Over-relaxed primal-dual iteration, in units that suit its step size.

    Densities have mean 1 over the box, and lengths are counted in quarters of its longer side:
    so weighed, densities and momenta converge about equally quickly. With the product of both
    step sizes equal to 1, sigma appears in the proximal step alone, and the dual unknown is kept
    divided by sigma.
    """

    def __init__(
        self,
        start: Array,
        end: Array,
        steps: int,
        spacing: tuple[float, float],
        sigma: float | None,
        relaxation: float,
    ) -> None:
        self.spacing, self.done = spacing, 0
        self.side = max(width * cells for width, cells in zip(spacing, start.shape, strict=True))
        self.unit = self.side / 4
        self.start, self.end = start, end
        self.grid = StaggeredGrid(
            (steps, *start.shape), (spacing[0] / self.unit, spacing[1] / self.unit)
        )
        self._relaxation, self._tuned = relaxation, sigma is not None
        self._sigma = _FIRST_SIGMA if sigma is None else float(sigma)
        times = np.linspace(0, 1, steps + 1)[:, None, None]
        self._flow, self.projected = self.grid.zeros(), self.grid.zeros()
        self._flow.density[...] = (1 - times) * start + times * end
        self.grid.project(self._flow, start, end)
        shape = (3, *self.grid.shape)
        self.dual, self.centred = np.zeros(shape), np.zeros(shape)
        self._agreed, self._argument = np.empty(shape), np.empty(shape)

    def advance(self) -> None:
        """Do one iteration."""
        projected, flow, agreed, argument = self.projected, self._flow, self._agreed, self._argument
        for new, old in zip(projected, flow, strict=True):
            np.copyto(new, old)
        self.grid.subtract_adjoint(self.dual, projected)
        self.grid.project(projected, self.start, self.end)
        for new, old in zip(projected, flow, strict=True):
            old -= new
            old *= -1  # the step
            new += old  # as far again, for now: the extrapolation
        self.grid.interpolate(projected, out=agreed)
        np.add(self.dual, agreed, out=argument)
        kinetic_prox(argument, 1 / self._sigma, out=self.centred)
        agreed -= self.centred
        agreed *= self._relaxation
        self.dual += agreed
        for new, step in zip(projected, flow, strict=True):
            new -= step
            step *= self._relaxation - 1
            step += new  # over-relaxed: the unknown of the next iteration
        self.done += 1
        if not self._tuned and self.done == _TUNED_AFTER:
            self._tune()

    def _tune(self) -> None:
        """Choose sigma from the distance found so far: near densities want longer steps."""
        distance = np.sqrt(self.energy()) / self.side
        chosen = float(np.clip(_TUNED_SIGMA / np.sqrt(max(distance, 1e-9)), *_SIGMA_RANGE))
        self.dual *= self._sigma / chosen
        self._sigma, self._tuned = chosen, True

    def energy(self) -> float:
        """Kinetic energy of the centred unknowns, in squared units of length."""
        density, momentum_x, momentum_y = self.centred
        safe = np.where(density > 0, density, 1.0)
        work = momentum_x * momentum_x
        work += momentum_y * momentum_y
        work /= safe
        return self.unit**2 * float(work.mean())

    def check(self) -> tuple[float, float, float]:
        """Energy, distance and step, both relative to the unknowns' size."""
        agreed = self.grid.interpolate(self.projected, out=self._argument)
        sizes = np.maximum(_sizes(agreed), _NOTHING)
        agreed -= self.centred
        distance = _sizes(agreed)
        # What `advance` left there is the same for the extrapolated unknowns.
        self._agreed /= self._relaxation
        agreed -= self._agreed
        step = _sizes(agreed)
        return self.energy(), float(np.max(distance / sizes)), float(np.max(step / sizes))


def _sizes(centred: Array) -> Array:
    """Root mean squares of densities and of momenta."""
    flat = centred.reshape(3, -1)
    density, momentum_x, momentum_y = (float(part @ part) / part.size for part in flat)
    return np.sqrt([density, momentum_x + momentum_y])


def _iterate(
    iteration: _Iteration, tolerance: float, limit: int, check_every: int, progress: bool
) -> tuple[list[tuple[float, ...]], bool]:
    records: list[tuple[float, ...]] = []
    began, last, converged = time.perf_counter(), np.inf, False
    with tqdm(total=limit, disable=not progress, unit="it", desc="least energy") as bar:
        while not converged and iteration.done < limit:
            for _ in range(min(check_every, limit - iteration.done)):
                iteration.advance()
            energy, distance, step = iteration.check()
            change = abs(energy - last) / max(energy, (_NOTHING * iteration.unit) ** 2)
            last = energy
            seconds = time.perf_counter() - began
            records.append((iteration.done, energy, distance, step, change, seconds))
            converged = max(distance, step, 10 * change) <= tolerance
            bar.update(iteration.done - bar.n)
            bar.set_postfix(energy=f"{energy:.5g}", distance=f"{distance:.1e}", refresh=False)
    return records, converged


def _result(
    iteration: _Iteration, records: list[tuple[float, ...]], converged: bool
) -> DynamicTransport:
    """Bring everything back to mass 1 and units of length."""
    numbers, *columns = np.array(records).T
    divergence = iteration.grid.divergence(iteration.projected)
    nx, ny = iteration.start.shape
    scale = 1 / (nx * ny * iteration.spacing[0] * iteration.spacing[1])
    momentum_scale = scale * iteration.unit
    steps = iteration.grid.shape[0]
    flow = iteration.projected
    return DynamicTransport(
        density=iteration.centred[0] * scale,
        momentum=np.stack([iteration.centred[1], iteration.centred[2]], axis=1) * momentum_scale,
        energy=iteration.energy(),
        times=(np.arange(steps) + 0.5) / steps,
        spacing=iteration.spacing,
        start=iteration.start * scale,
        end=iteration.end * scale,
        staggered=Staggered(
            flow.density * scale, flow.momentum_x * momentum_scale, flow.momentum_y * momentum_scale
        ),
        continuity_residual=float(np.abs(divergence).max()),
        history=History(numbers.astype(np.int64), *columns),
        iterations=iteration.done,
        converged=converged,
    )


def _complain(result: DynamicTransport, tolerance: float, unconverged: str) -> None:
    history = result.history
    message = (
        f"no convergence to tolerance {tolerance:g} in {result.iterations} iterations: distance "
        f"{history.distance[-1]:.1e}, step {history.step[-1]:.1e}, energy change "
        f"{history.energy_change[-1]:.1e} (a tenth of the tolerance is wanted); allow more "
        "iterations or a larger tolerance"
    )
    if unconverged == "raise":
        raise NotConverged(message, result)
    warnings.warn(message, UserWarning, stacklevel=3)


def _density_pair(mu0: ArrayLike, mu1: ArrayLike) -> tuple[Array, Array]:
    """Check both densities and scale them to mean 1."""
    start, end = _density(mu0, "mu0"), _density(mu1, "mu1")
    if start.shape != end.shape:
        raise ValueError(f"mu0 and mu1 must have the same shape, not {start.shape}, {end.shape}")
    masses = float(start.sum()), float(end.sum())
    if not np.isclose(*masses, rtol=1e-6, atol=0):
        raise ValueError(
            f"mu0 and mu1 must have the same mass, but their sums are {masses[0]:.9g} and "
            f"{masses[1]:.9g}: divide each by its sum"
        )
    return start * (start.size / masses[0]), end * (end.size / masses[1])


def _density(value: ArrayLike, name: str) -> Array:
    density = as_tensor(value, name).double().cpu().numpy()
    if density.ndim != 2 or min(density.shape) < 2:
        raise ValueError(
            f"{name} must have shape (nx, ny) with at least 2 cells each way, not {density.shape}"
        )
    least = float(density.min())
    if least < 0:
        raise ValueError(f"{name} must not be negative, but its least value is {least:g}")
    if not density.any():
        raise ValueError(f"{name} must hold some mass, but is zero everywhere")
    return density


def _spacing(
    spacing: float | Sequence[float] | None, shape: tuple[int, ...]
) -> tuple[float, float]:
    if spacing is None:
        return 1 / shape[0], 1 / shape[1]
    widths = list(spacing) if isinstance(spacing, Sequence | np.ndarray) else [spacing, spacing]
    if len(widths) != 2:
        raise ValueError(f"spacing must be one width or a pair of them, not {spacing!r}")
    return positive(widths[0], "spacing"), positive(widths[1], "spacing")


class StaggeredGrid:
    """Divergence, interpolation and projection on space-time cells.

    Parameters
    ----------
    shape : (int, int, int)
        Cells in time, x and y.
    spacing : (float, float)
        Width of a cell in x and y; the duration is 1.
    """

    def __init__(self, shape: tuple[int, int, int], spacing: tuple[float, float]) -> None:
        self.shape = shape
        self.inverse = (float(shape[0]), 1 / spacing[0], 1 / spacing[1])
        self._cosines = [_cosines(cells) for cells in shape]
        # Matrix products read a transposed copy quicker than a transposed view.
        self._transposed = [np.ascontiguousarray(matrix.T) for matrix in self._cosines]
        time_part, x_part, y_part = (
            (2 * inverse * np.sin(np.pi * np.arange(cells) / (2 * cells))) ** 2
            for inverse, cells in zip(self.inverse, shape, strict=True)
        )
        eigenvalues = time_part[:, None, None] + x_part[:, None] + y_part
        eigenvalues[0, 0, 0] = np.inf  # the mean of the potential is free: zero
        self._inverse_eigenvalues = 1 / eigenvalues
        self._first, self._second = np.empty(shape), np.empty(shape)

    def zeros(self) -> Staggered:
        """Staggered unknowns, all zero."""
        steps, nx, ny = self.shape
        return Staggered(
            np.zeros((steps + 1, nx, ny)),
            np.zeros((steps, nx + 1, ny)),
            np.zeros((steps, nx, ny + 1)),
        )

    def divergence(self, flow: Staggered, out: Array | None = None) -> Array:
        """d_t f + div m in each cell.

        Parameters
        ----------
        flow : Staggered
            Densities and momenta.
        out : ndarray, shape (time_steps, nx, ny), optional
            Where to write.

        Returns
        -------
        ndarray, shape (time_steps, nx, ny)
        """
        out = np.empty(self.shape) if out is None else out
        work = self._second
        np.subtract(flow.density[1:], flow.density[:-1], out=out)
        out *= self.inverse[0]
        np.subtract(flow.momentum_x[:, 1:], flow.momentum_x[:, :-1], out=work)
        work *= self.inverse[1]
        out += work
        np.subtract(flow.momentum_y[:, :, 1:], flow.momentum_y[:, :, :-1], out=work)
        work *= self.inverse[2]
        out += work
        return out

    def interpolate(self, flow: Staggered, out: Array | None = None) -> Array:
        """Averages of neighbours, at the middle of each cell.

        Parameters
        ----------
        flow : Staggered
            Densities and momenta.
        out : ndarray, shape (3, time_steps, nx, ny), optional
            Where to write.

        Returns
        -------
        ndarray, shape (3, time_steps, nx, ny)
            Density, momentum in x, momentum in y.
        """
        out = np.empty((3, *self.shape)) if out is None else out
        np.add(flow.density[1:], flow.density[:-1], out=out[0])
        np.add(flow.momentum_x[:, 1:], flow.momentum_x[:, :-1], out=out[1])
        np.add(flow.momentum_y[:, :, 1:], flow.momentum_y[:, :, :-1], out=out[2])
        out *= 0.5
        return out

    def subtract_adjoint(self, centred: Array, flow: Staggered) -> None:
        """Subtract the transpose of `interpolate`, applied to `centred`, from `flow` in place.

        Parameters
        ----------
        centred : ndarray, shape (3, time_steps, nx, ny)
            Values at the middle of each cell.
        flow : Staggered
            Changed in place.
        """
        half = self._first
        np.multiply(centred[0], 0.5, out=half)
        flow.density[1:] -= half
        flow.density[:-1] -= half
        np.multiply(centred[1], 0.5, out=half)
        flow.momentum_x[:, 1:] -= half
        flow.momentum_x[:, :-1] -= half
        np.multiply(centred[2], 0.5, out=half)
        flow.momentum_y[:, :, 1:] -= half
        flow.momentum_y[:, :, :-1] -= half

    def project(self, flow: Staggered, start: Array, end: Array) -> None:
        """Move `flow` in place to the nearest one that obeys the constraints.

        They are the continuity equation, the densities at both ends, and no flow through walls.

        Parameters
        ----------
        flow : Staggered
            Changed in place.
        start, end : ndarray, shape (nx, ny)
            Densities of equal mass.
        """
        density, momentum_x, momentum_y = flow
        density[0], density[-1] = start, end
        momentum_x[:, 0] = momentum_x[:, -1] = 0
        momentum_y[:, :, 0] = momentum_y[:, :, -1] = 0
        potential = self.poisson(self.divergence(flow, out=self._first))
        for unknown, axis in ((density, 0), (momentum_x, 1), (momentum_y, 2)):
            inner = (slice(None),) * axis + (slice(1, -1),)
            upper = (slice(None),) * axis + (slice(1, None),)
            lower = (slice(None),) * axis + (slice(None, -1),)
            scaled = np.multiply(potential, self.inverse[axis], out=self._first)
            unknown[inner] += scaled[upper]
            unknown[inner] -= scaled[lower]

    def poisson(self, source: Array) -> Array:
        """Solve -(d_t^2 + Laplacian) p = source with zero slope at all walls and zero mean.

        Parameters
        ----------
        source : ndarray, shape (time_steps, nx, ny)
            Its mean is dropped.

        Returns
        -------
        ndarray, shape (time_steps, nx, ny)
            Overwritten by the next call.
        """
        # Dense cosine matrices: quicker than scipy.fft.dctn up to 128 cells a side at least.
        steps, _, ny = self.shape
        (in_time, in_x, in_y), (from_time, from_x, from_y) = self._cosines, self._transposed
        first, second = self._first, self._second
        np.matmul(in_time, source.reshape(steps, -1), out=second.reshape(steps, -1))
        np.matmul(in_x, second, out=first)
        np.matmul(first.reshape(-1, ny), from_y, out=second.reshape(-1, ny))
        second *= self._inverse_eigenvalues
        np.matmul(second.reshape(-1, ny), in_y, out=first.reshape(-1, ny))
        np.matmul(from_x, first, out=second)
        np.matmul(from_time, second.reshape(steps, -1), out=first.reshape(steps, -1))
        second[...] = first
        return second


def kinetic_prox(centred: Array, weight: float, out: Array | None = None) -> Array:
    """Proximal step of the kinetic energy, in each cell by itself.

    Minimises ``weight |m|^2 / (2 f) + |m - m_0|^2 / 2 + (f - f_0)^2 / 2`` over m and f >= 0. With
    y = f + weight, stationarity reads y^2 (y - f_0 - weight) = weight |m_0|^2 / 2 and
    m = m_0 f / y: the largest root y is wanted. Where f_0 <= -|m_0|^2 / (2 weight) the answer is 0.

    Parameters
    ----------
    centred : ndarray, shape (3, ...)
        f_0 and the two components of m_0.
    weight : float
        Above 0.
    out : ndarray, shape (3, ...), optional
        Where to write, contiguous; not `centred` itself.

    Returns
    -------
    ndarray, shape (3, ...)
        f, never negative, and m.
    """
    out = np.empty(centred.shape) if out is None else out
    given, found = centred.reshape(3, -1), out.reshape(3, -1)
    # In pieces that stay in the processor's cache, with all that is computed on the way.
    for first in range(0, given.shape[1], _PIECE):
        piece = slice(first, first + _PIECE)
        _prox_piece(given[:, piece], weight, found[:, piece])
    return out


def _prox_piece(given: Array, weight: float, found: Array) -> None:
    density, momentum_x, momentum_y = given
    squares = momentum_x * momentum_x
    squares += momentum_y * momentum_y
    squares *= 0.5
    # Most cells are empty in many problems: they take no part in the root finding.
    filled = np.flatnonzero(density * weight > -squares)
    root = _largest_root(density[filled] + weight, weight * squares[filled])
    kept = np.maximum(root - weight, 0.0)
    ratio = kept / root
    found[...] = 0
    found[0, filled] = kept
    found[1, filled] = momentum_x[filled] * ratio
    found[2, filled] = momentum_y[filled] * ratio


def _largest_root(shifted: Array, product: Array) -> Array:
    """Largest root of y^2 (y - shifted) = product, product >= 0, if shifted > 0 or product > 0.

    Cardano's formula where there is one real root; elsewhere a bound from above. Newton's method
    does the rest: between the root and the bound the cubic is increasing and convex, so it goes
    down without overshooting. It also mends the digits that the formula loses by cancellation.
    """
    third = shifted / 3
    cubed = third * third * third  # a power is many times slower
    inside = product * (cubed + product / 4)
    several = np.flatnonzero(inside < 0)
    inside[several] = 0
    part = np.cbrt(cubed + product / 2 + np.sqrt(inside))
    part[several] = 1
    root = third + part + third * third / part
    if several.size:  # only where shifted < 0
        below, above = product[several], -shifted[several]
        root[several] = np.minimum(np.cbrt(below), np.sqrt(below / above))
    for _ in range(_NEWTON_STEPS):
        step = root - shifted
        slope = 2 * step
        slope += root  # the cubic's derivative over the root: 3 y - 2 shifted
        step *= root
        step -= product / root
        step /= slope
        root -= step
        # Convergence is quadratic: the error left is about the square of the last step's.
        if not np.any(np.abs(step, out=step) > 1e-8 * root):
            break
    return root


def _cosines(cells: int) -> Array:
    """Orthonormal matrix of the discrete cosine transform of type II, (cells, cells)."""
    frequency, place = np.arange(cells)[:, None], np.arange(cells) + 0.5
    matrix = np.cos(np.pi * frequency * place / cells) * np.sqrt(2 / cells)
    matrix[0] /= np.sqrt(2)
    return matrix
