"""Flows in the plane: vector fields, particles carried by them, and the continuity equation.

A field is anything that maps a time and points (n, 2) to velocities (n, 2). Two descriptions of
one flow are computed here: that of the particles, dx/dt = v_t(x), by `advect`; and that of their
density, d mu_t / dt + div(v_t mu_t) = 0 (the paper's eq. (1)), by `solve_continuity`. Between them
stands `forward_euler`, mu_{l+1} = (Id + h v_l)_# mu_l (eq. (2)): a residual network's block is
one such step with h = 1.

A field whose law changes abruptly at certain times lists them in an attribute ``breaks``; both
solvers end a step there.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.integrate import solve_ivp

from geobook.gaussians import AffineMap, Gaussian, gaussian_optimal_map
from geobook.networks import Network
from geobook.validation import Points, as_points, as_tensor, count, one_of, positive

Array = np.ndarray
Field = Callable[[float, Array], Array]

BOUNDARIES = ("no-flux", "periodic")
LIMITERS = ("van-leer", "minmod", "first-order")

# Above this Courant number the scheme of `solve_continuity` may make densities negative.
LARGEST_COURANT = 0.5


@dataclass(frozen=True)
class Rotation:
    """Rigid rotation about a centre: divergence 0, curl ``2 * speed``.

    Parameters
    ----------
    speed : float
        Angular speed, positive counterclockwise.
    centre : (float, float)
    """

    speed: float = 1.0
    centre: tuple[float, float] = (0.0, 0.0)

    def __call__(self, t: float, points: Array) -> Array:
        """Return velocities (n, 2)."""
        away = points - np.asarray(self.centre)
        return self.speed * np.stack([-away[:, 1], away[:, 0]], 1)


@dataclass(frozen=True)
class Saddle:
    """Stretching along x and shrinking along y, ``rate * (x, -y)``: divergence 0, curl 0.

    Parameters
    ----------
    rate : float
    centre : (float, float)
    """

    rate: float = 1.0
    centre: tuple[float, float] = (0.0, 0.0)

    def __call__(self, t: float, points: Array) -> Array:
        """Return velocities (n, 2)."""
        return self.rate * (points - np.asarray(self.centre)) * [1.0, -1.0]


@dataclass(frozen=True)
class Shear:
    """Layers that slide along x, ``rate * (y, 0)``: divergence 0, curl ``-rate``.

    Parameters
    ----------
    rate : float
    """

    rate: float = 1.0

    def __call__(self, t: float, points: Array) -> Array:
        """Return velocities (n, 2)."""
        return np.stack([self.rate * points[:, 1], np.zeros(len(points))], 1)


@dataclass(frozen=True)
class SourceSink:
    """Flow out of a source and into a sink, both softened: curl 0.

    With q(r) = strength / (|r|^2 + radius^2) the velocity is q(x - source) (x - source) minus the
    same for the sink. The divergence is ``2 strength radius^2 / (|r|^2 + radius^2)^2`` for the
    source, minus the same for the sink.

    Parameters
    ----------
    strength : float
    source, sink : (float, float)
    radius : float
        Radius of the soft core, above 0.
    """

    strength: float = 1.0
    source: tuple[float, float] = (-0.5, 0.0)
    sink: tuple[float, float] = (0.5, 0.0)
    radius: float = 0.1

    def __post_init__(self) -> None:
        positive(self.radius, "radius")

    def __call__(self, t: float, points: Array) -> Array:
        """Return velocities (n, 2)."""
        return self.strength * (
            self._outward(points, self.source) - self._outward(points, self.sink)
        )

    def _outward(self, points: Array, centre: tuple[float, float]) -> Array:
        away = points - np.asarray(centre)
        return away / ((away**2).sum(1, keepdims=True) + self.radius**2)


@dataclass(frozen=True)
class DoubleGyre:
    """Two vortices side by side whose border swings: divergence 0, tangential on [0, 2] x [0, 1].

    The stream function is ``amplitude * sin(pi f(x, t)) sin(pi y)`` with
    ``f = x + swing * sin(frequency t) (x^2 - 2 x)``. Source: Shadden, Lekien and Marsden,
    Physica D 212 (2005).

    Parameters
    ----------
    amplitude : float
        Of the stream function; the greatest speed is about pi times this.
    swing : float
        How far the border swings; 0 for a steady field.
    frequency : float
        Angular frequency of the swing.
    """

    amplitude: float = 0.1
    swing: float = 0.25
    frequency: float = 2 * math.pi / 10

    def __call__(self, t: float, points: Array) -> Array:
        """Return velocities (n, 2)."""
        x, y = points[:, 0], points[:, 1]
        bend = self.swing * math.sin(self.frequency * t)
        phase = math.pi * (x + bend * (x**2 - 2 * x))
        slope = 1 + bend * (2 * x - 2)
        size = math.pi * self.amplitude
        return size * np.stack(
            [-np.sin(phase) * np.cos(math.pi * y), slope * np.cos(phase) * np.sin(math.pi * y)], 1
        )


@dataclass(frozen=True, eq=False)
class Displacement:
    """Velocity of displacement interpolation along an affine optimal map (the paper's eq. (7)).

    v_t = (T - Id) o ((1 - t) Id + t T)^-1 for T(x) = matrix x + shift: every particle keeps the
    velocity T(x) - x. The curl is 0.

    Parameters
    ----------
    map : AffineMap
        In the plane, with a symmetric, positive semidefinite matrix: otherwise it would not be
        optimal. See `displacement_field` for the map between two Gaussians.

    Raises
    ------
    ValueError
        If the map is not optimal; and, when called, if the map (1 - t) Id + t T cannot be undone.
    """

    map: AffineMap

    def __post_init__(self) -> None:
        matrix = self.map.matrix
        if matrix.shape != (2, 2):
            raise ValueError(f"map must be in the plane, not in dimension {len(matrix)}")
        # The covariance check is the very one that is wanted: symmetric, no negative eigenvalue.
        try:
            Gaussian(self.map.shift, matrix)
        except ValueError as error:
            raise ValueError(
                "map must have a symmetric, positive semidefinite matrix to be optimal"
            ) from error

    def __call__(self, t: float, points: Array) -> Array:
        """Return velocities (n, 2)."""
        part = self.map.partial(t)
        if np.linalg.cond(part.matrix) > 1e12:
            raise ValueError(
                f"t must leave the map (1 - t) Id + t T invertible, which t = {t} does not"
            )
        origin = np.linalg.solve(part.matrix, (points - part.shift).T).T
        return self.map(origin) - origin


def displacement_field(start: Gaussian, end: Gaussian) -> Displacement:
    """Velocity field of the Wasserstein geodesic between two Gaussians in the plane (eq. (7)).

    Parameters
    ----------
    start, end : Gaussian
        Of dimension 2; `start` with an invertible covariance.

    Raises
    ------
    ValueError
        As `geobook.gaussians.gaussian_optimal_map`, or if the dimension is not 2.
    """
    return Displacement(gaussian_optimal_map(start, end))


@dataclass(frozen=True)
class Combination:
    """Weighted sum of fields.

    Parameters
    ----------
    fields : tuple of fields
    weights : tuple of float, optional
        One for each field; all 1 by default.

    Raises
    ------
    ValueError
        If there is no field, or there are not as many weights.
    """

    fields: tuple[Field, ...]
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not self.fields:
            raise ValueError("fields must hold at least one field, not none")
        if self.weights is not None and len(self.weights) != len(self.fields):
            raise ValueError(f"weights must be {len(self.fields)} numbers, not {self.weights!r}")

    def __call__(self, t: float, points: Array) -> Array:
        """Return velocities (n, 2)."""
        weights = self.weights or (1.0,) * len(self.fields)
        parts = zip(weights, self.fields, strict=True)
        return np.sum([weight * field(t, points) for weight, field in parts], axis=0)

    @property
    def breaks(self) -> tuple[float, ...]:
        """Times at which one of the fields changes abruptly."""
        return tuple(sorted({b for field in self.fields for b in getattr(field, "breaks", ())}))


class NetworkField:
    """Velocities of a network's blocks, v_l(x) = F_l(x) - x while l <= t < l + 1.

    A forward-Euler step of length 1 with it is the block itself (the paper's eq. (2)); make one
    with `network_field`.

    Attributes
    ----------
    blocks : int
        L; the field is defined for times from 0 to L, and has at L the last block's value.
    breaks : tuple of float
        0, 1 .. L.
    """

    def __init__(self, blocks: torch.nn.ModuleList) -> None:
        self._blocks = blocks
        self.blocks = len(blocks)
        self.breaks = tuple(float(layer) for layer in range(self.blocks + 1))

    def __call__(self, t: float, points: Array) -> Array:
        """Return velocities (n, 2).

        Raises
        ------
        ValueError
            If t lies outside [0, L].
        """
        if not 0 <= t <= self.blocks:
            raise ValueError(f"t must lie between 0 and {self.blocks} (the blocks), not {t!r}")
        layer = min(int(t), self.blocks - 1)
        x = torch.tensor(points, dtype=torch.float64)
        with torch.no_grad():
            return (self._blocks[layer](x) - x).numpy()


def network_field(network: Network, stage: int = 0) -> NetworkField:
    """Field of a 2-D network's blocks, constant in time over each block.

    Parameters
    ----------
    network : Network
        Residual (v is then the branch) or plain (v_l = F_l - Id). It is copied, in evaluation mode
        and float64: training it further does not change the field.
    stage : int
        Which of its stages; must be of shape (2,).

    Raises
    ------
    ValueError
        If there is no such stage or it is not two-dimensional.

    Examples
    --------
    >>> from geobook.networks import Architecture, Stage, build
    >>> plane = Architecture("plane", (2,), (Stage((2,), 4, hidden=16),), 2)
    >>> network_field(build(plane)).blocks
    4
    """
    stages = network.architecture.stages
    if count(stage, "stage", 0) >= len(stages):
        raise ValueError(f"stage must be below {len(stages)}, not {stage!r}")
    if stages[stage].shape != (2,):
        raise ValueError(f"network must have a stage of shape (2,), not {stages[stage].shape}")
    return NetworkField(copy.deepcopy(network.stages[stage]).cpu().double().eval())


def field_divergence(field: Field, t: float, points: Points, step: float = 1e-5) -> Array:
    """Divergence of a field at points (n, 2), shape (n,), by central differences.

    Parameters
    ----------
    field : field
    t : float
    points : array, shape (n, 2)
    step : float
        Half the distance over which differences are taken.
    """
    along_x, along_y = _derivatives(field, t, points, step)
    return along_x[:, 0] + along_y[:, 1]


def field_curl(field: Field, t: float, points: Points, step: float = 1e-5) -> Array:
    """Curl, dv/dx - du/dy, of a field (u, v); as `field_divergence`."""
    along_x, along_y = _derivatives(field, t, points, step)
    return along_x[:, 1] - along_y[:, 0]


def field_jacobian(field: Field, t: float, points: Points, step: float = 1e-5) -> Array:
    """Jacobian matrices of a field at points (n, 2), shape (n, 2, 2), by central differences.

    Entry ``[:, i, j]`` is the derivative of component i along coordinate j. Any function of a time
    and points will do, for example the flow map ``lambda t, x: advect(field, x, [0, t])[-1]``.

    Parameters
    ----------
    field, t, points, step
        As for `field_divergence`.
    """
    return np.stack(_derivatives(field, t, points, step), 2)


def advect(
    field: Field,
    points: Points,
    times: ArrayLike,
    *,
    rtol: float = 1e-8,
    atol: float = 1e-10,
    method: str = "DOP853",
) -> Array:
    """Carry particles along a field, dx/dt = v_t(x), with control of the error.

    Parameters
    ----------
    field : field
    points : array or Tensor, shape (n, 2)
        Positions at the first time.
    times : array, shape (times,)
        Growing, or falling to go back in time.
    rtol, atol : float
        A step's estimated error in any coordinate stays below ``atol + rtol * |coordinate|``.
        (SciPy bounds the root mean square over all coordinates: its tolerances are divided by
        the root of their number.)
    method : str
        An explicit method of `scipy.integrate.solve_ivp`.

    Returns
    -------
    array, shape (times, n, 2)

    Raises
    ------
    ValueError
        If the points are not in the plane, the times are not monotone, or the field returns
        anything but finite velocities of the points' shape.
    ArithmeticError
        If the solver gives up.
    """
    start, at = _plane_points(points), _monotone(times)
    one_of(method, "method", ("RK23", "RK45", "DOP853"))
    sharper = math.sqrt(start.size)
    # Below this SciPy warns and takes it.
    relative = max(positive(rtol, "rtol") / sharper, 100 * np.finfo(float).eps)
    absolute = positive(atol, "atol") / sharper
    track = np.empty((at.size, *start.shape))
    track[0] = state = start
    for begin, end in pairwise(_knots(field, at[[0, -1]])):
        low, high = min(begin, end), max(begin, end)
        reached = np.flatnonzero((low <= at) & (at <= high) & (at != begin))
        wanted = at[reached] if end in at else np.append(at[reached], end)
        solution = solve_ivp(
            _right_side(field, begin, end, start.shape),
            (begin, end),
            state.ravel(),
            method=method,
            t_eval=wanted,
            rtol=relative,
            atol=absolute,
        )
        if not solution.success:
            raise ArithmeticError(f"advection stopped before t = {end}: {solution.message}")
        path = solution.y.T.reshape(-1, *start.shape)
        track[reached], state = path[: len(reached)], path[-1]
    return track


def forward_euler(field: Field, points: Points, times: ArrayLike) -> Array:
    """Push particles forward by x -> x + h v_t(x) from one time to the next (eq. (2)).

    With the field of a network and times 0, 1 .. L the positions are the network's states.

    Parameters
    ----------
    field : field
    points : array or Tensor, shape (n, 2)
        Positions at the first time.
    times : array, shape (times,)
        Growing or falling; the distances between them are the steps h.

    Returns
    -------
    array, shape (times, n, 2)
        The error falls like h.

    Raises
    ------
    ValueError
        As `advect`.
    """
    at = _monotone(times)
    track = [_plane_points(points)]
    for now, later in pairwise(at):
        track.append(track[-1] + (later - now) * _velocities(field, now, track[-1]))
    return np.stack(track)


@dataclass(frozen=True)
class Grid:
    """A rectangle cut into equal cells. Axis 0 of every array on it is x, axis 1 is y.

    Parameters
    ----------
    shape : (int, int)
        Number of cells along x and y.
    lower, upper : (float, float)
        Corners of the rectangle.

    Raises
    ------
    ValueError
        If there are fewer than two cells a side, or `upper` is not above `lower`.
    """

    shape: tuple[int, int]
    lower: tuple[float, float] = (0.0, 0.0)
    upper: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        for name in ("shape", "lower", "upper"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or len(value) != 2:
                raise ValueError(f"{name} must be two numbers (x, y), not {value!r}")
        for cells in self.shape:
            count(cells, "shape", 2)
        if not all(low < high for low, high in zip(self.lower, self.upper, strict=True)):
            raise ValueError(f"upper must lie above lower = {self.lower}, not at {self.upper}")

    @property
    def spacing(self) -> tuple[float, float]:
        """Sides (dx, dy) of a cell."""
        width, height = np.subtract(self.upper, self.lower)
        return float(width / self.shape[0]), float(height / self.shape[1])

    @property
    def edges(self) -> tuple[Array, Array]:
        """Edges of the cells along x and along y."""
        return tuple(
            np.linspace(self.lower[axis], self.upper[axis], self.shape[axis] + 1) for axis in (0, 1)
        )

    @property
    def centres(self) -> Array:
        """Centres of the cells, shape (nx, ny, 2)."""
        return _lattice(*map(_middles, self.edges))

    @property
    def faces(self) -> tuple[Array, Array]:
        """Middles of the faces across x, (nx + 1, ny, 2), and across y, (nx, ny + 1, 2)."""
        x, y = self.edges
        return _lattice(x, _middles(y)), _lattice(_middles(x), y)

    def mass(self, density: ArrayLike) -> float | Array:
        """Integral of a density (..., nx, ny), shape (...)."""
        return np.asarray(density).sum((-2, -1)) * math.prod(self.spacing)

    def at_centres(self, field: Field, t: float = 0.0) -> Array:
        """Velocities of a field at the centres, shape (2, nx, ny)."""
        points = self.centres.reshape(-1, 2)
        return np.moveaxis(_velocities(field, t, points).reshape(*self.shape, 2), 2, 0).copy()

    def on_faces(self, field: Field, t: float = 0.0) -> tuple[Array, Array]:
        """Velocities across the faces: u, shape (nx + 1, ny), and v, shape (nx, ny + 1)."""
        u, v = (
            _velocities(field, t, middles.reshape(-1, 2))[:, axis].reshape(middles.shape[:2])
            for axis, middles in enumerate(self.faces)
        )
        return u, v


@dataclass(frozen=True, eq=False)
class Evolution:
    """What `solve_continuity` finds.

    Attributes
    ----------
    times : array, shape (times,)
    density : array, shape (times, nx, ny)
        Means over the cells.
    mass : array, shape (times,)
        Integrals of the densities.
    steps : int
        Number of time steps taken.
    courant : float
        Largest Courant number of any step; at most `LARGEST_COURANT`.
    """

    times: Array
    density: Array
    mass: Array
    steps: int
    courant: float


def solve_continuity(
    density: ArrayLike,
    field: Field,
    grid: Grid,
    times: ArrayLike,
    *,
    boundary: str = "no-flux",
    limiter: str = "van-leer",
    cfl: float = 0.45,
    steps: int | None = None,
) -> Evolution:
    """Solve the continuity equation d mu / dt + div(v mu) = 0 on a grid (the paper's eq. (1)).

    Finite volumes: upwind fluxes of a limited linear reconstruction (MUSCL, van Leer 1979), and
    Heun's method in its strong-stability-preserving form (Shu and Osher 1988). Second order where
    the density is smooth; the mass is kept to rounding; a density that is nowhere negative stays
    so, because no cell can lose more than it holds while the Courant number is at most 1/2. That
    number is the time step times the largest value, over the cells, of
    max(outward speed through a face across x) / dx + the same for y.

    Parameters
    ----------
    density : array, shape (nx, ny)
        Means over the cells at the first time, nowhere negative.
    field : field
    grid : Grid
    times : array, shape (times,)
        Growing times at which the density is wanted.
    boundary : {"no-flux", "periodic"}
        Walls, which the velocity is taken not to cross, whatever the field says there; or opposite
        sides joined, where the field must be periodic too (its values on the lower sides count).
    limiter : {"van-leer", "minmod", "first-order"}
        Slopes of the reconstruction; the last has none: the upwind scheme, for comparison.
    cfl : float
        Courant number that the time steps aim at, at most 1/2.
    steps : int, optional
        Take this many equal steps between one wanted time (or break of the field) and the next
        instead.

    Returns
    -------
    Evolution

    Raises
    ------
    ValueError
        If an argument does not fit, the density is negative somewhere, or `steps` are too few
        (the message says how many are needed).
    """
    state, at = _density_on(grid, density), _monotone(times)
    if at[-1] < at[0]:
        raise ValueError("times must grow: the scheme cannot go back in time")
    one_of(boundary, "boundary", BOUNDARIES)
    one_of(limiter, "limiter", LIMITERS)
    if positive(cfl, "cfl") > LARGEST_COURANT:
        raise ValueError(f"cfl must be at most {LARGEST_COURANT}, not {cfl!r}")
    if steps is not None:
        count(steps, "steps")
    scheme = _Scheme(field, grid, boundary == "periodic", limiter)
    kept, taken, largest = [state], 0, 0.0
    for begin, end in pairwise(_knots(field, at)):
        advance = scheme.automatic(begin, end, cfl) if steps is None else (
            scheme.uniform(begin, end, steps)
        )  # fmt: skip
        for step, before, after in advance:
            state = scheme.step(state, step, before.speeds, after.speeds)
            taken, largest = taken + 1, max(largest, step * max(before.rate, after.rate))
        if end in at:
            kept.append(state)
    densities = np.stack(kept)
    return Evolution(at, densities, grid.mass(densities), taken, largest)


def density_of_particles(points: Points, grid: Grid, boundary: str = "no-flux") -> Array:
    """Density of a cloud of particles of total mass 1: a histogram.

    Parameters
    ----------
    points : array or Tensor, shape (n, 2)
    grid : Grid
    boundary : {"no-flux", "periodic"}
        With "periodic", particles that left the rectangle come in on the other side; otherwise
        they are missing from the mass.

    Returns
    -------
    array, shape (nx, ny)

    Raises
    ------
    ValueError
        If the points are not in the plane.
    """
    cloud = _plane_points(points)
    if one_of(boundary, "boundary", BOUNDARIES) == "periodic":
        cloud = grid.lower + np.mod(cloud - grid.lower, np.subtract(grid.upper, grid.lower))
    counts = np.histogram2d(cloud[:, 0], cloud[:, 1], bins=grid.edges)[0]
    return counts / (len(cloud) * math.prod(grid.spacing))


@dataclass(frozen=True, eq=False)
class _Moment:
    """Velocities across the faces at one time, and the rate at which cells may empty."""

    speeds: tuple[Array, Array]
    rate: float


class _Scheme:
    """The finite-volume scheme of `solve_continuity`."""

    def __init__(self, field: Field, grid: Grid, periodic: bool, limiter: str) -> None:
        self._field, self._grid = field, grid
        self._periodic, self._limiter = periodic, limiter

    def automatic(
        self, begin: float, end: float, cfl: float
    ) -> Iterator[tuple[float, _Moment, _Moment]]:
        """Yield steps whose Courant numbers are near `cfl` and never above the bound."""
        time, before, last = begin, self._moment(begin), math.nextafter(end, begin)
        while time < end:
            equal = max(1, math.ceil((end - time) * before.rate / cfl))
            step = (end - time) / equal
            later = end if equal == 1 else time + step
            after = self._moment(min(later, last))
            while step * after.rate > LARGEST_COURANT:
                step /= 2
                later = time + step
                after = self._moment(later)
            yield step, before, after
            time, before = later, after

    def uniform(
        self, begin: float, end: float, steps: int
    ) -> Iterator[tuple[float, _Moment, _Moment]]:
        """Yield equal steps, or refuse."""
        step, before = (end - begin) / steps, self._moment(begin)
        last = math.nextafter(end, begin)
        for index in range(1, steps + 1):
            after = self._moment(min(begin + index * step, last))
            courant = step * max(before.rate, after.rate)
            if courant > LARGEST_COURANT:
                needed = math.ceil(steps * courant / LARGEST_COURANT)
                raise ValueError(
                    f"steps must be at least {needed} between t = {begin:g} and t = {end:g}, "
                    f"not {steps}: the Courant number would be {courant:.3g}, and above "
                    f"{LARGEST_COURANT} the density may become negative"
                )
            yield step, before, after
            before = after

    def step(
        self,
        density: Array,
        step: float,
        before: tuple[Array, Array],
        after: tuple[Array, Array],
    ) -> Array:
        """Heun's method as the mean of the density and two Euler steps."""
        twice = self._euler(self._euler(density, step, before), step, after)
        return 0.5 * (density + twice)

    def _euler(self, density: Array, step: float, speeds: tuple[Array, Array]) -> Array:
        dx, dy = self._grid.spacing
        u, v = speeds
        across_x = self._flux(density, u)
        across_y = self._flux(density.T, v.T).T
        outflow = np.diff(across_x, axis=0) / dx + np.diff(across_y, axis=1) / dy
        return density - step * outflow

    def _flux(self, density: Array, speed: Array) -> Array:
        """Mass through the faces across axis 0."""
        padded = np.pad(density, ((2, 2), (0, 0)), "wrap" if self._periodic else "edge")
        cells = padded[1:-1]
        half = 0.5 * _limited_slope(np.diff(padded, axis=0), self._limiter)
        return (
            np.maximum(speed, 0) * (cells + half)[:-1] + np.minimum(speed, 0) * (cells - half)[1:]
        )

    def _moment(self, time: float) -> _Moment:
        u, v = self._grid.on_faces(self._field, time)
        if self._periodic:
            u[-1], v[:, -1] = u[0], v[:, 0]
        else:
            u[[0, -1]], v[:, [0, -1]] = 0.0, 0.0
        dx, dy = self._grid.spacing
        leaving = (
            np.maximum(np.maximum(u[1:], -u[:-1]), 0) / dx
            + np.maximum(np.maximum(v[:, 1:], -v[:, :-1]), 0) / dy
        )
        return _Moment((u, v), float(leaving.max()))


def _limited_slope(differences: Array, limiter: str) -> Array:
    """Slopes from differences to the cells before and after, 0 at extrema."""
    before, after = differences[:-1], differences[1:]
    if limiter == "first-order":
        return np.zeros_like(before)
    if limiter == "minmod":
        same = np.sign(before) == np.sign(after)
        return np.where(same, np.sign(before) * np.minimum(np.abs(before), np.abs(after)), 0.0)
    product = before * after
    total = np.where(product > 0, before + after, 1.0)
    return 2 * np.maximum(product, 0.0) / total


def _right_side(
    field: Field, begin: float, end: float, shape: tuple[int, ...]
) -> Callable[[float, Array], Array]:
    """Return the field as SciPy wants it, continued to both ends from between them."""
    low, high = min(begin, end), max(begin, end)
    last = math.nextafter(high, low)

    def right_side(t: float, flat: Array) -> Array:
        return _velocities(field, min(max(t, low), last), flat.reshape(shape)).ravel()

    return right_side


def _knots(field: Field, times: Array) -> Array:
    """Return the times, in their order, with the field's breaks between the first and the last."""
    low, high = sorted((times[0], times[-1]))
    between = [b for b in getattr(field, "breaks", ()) if low < b < high]
    knots = np.union1d(times, between)
    return knots if times[-1] >= times[0] else knots[::-1]


def _velocities(field: Field, t: float, points: Array) -> Array:
    values = np.asarray(field(float(t), points))
    if values.shape != points.shape:
        raise ValueError(f"field must return shape {points.shape}, not {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"field must be finite, but it is not at t = {t:g}")
    return values


def _derivatives(field: Field, t: float, points: Points, step: float) -> Sequence[Array]:
    at, half = _plane_points(points), positive(step, "step")
    return [
        (_velocities(field, t, at + half * unit) - _velocities(field, t, at - half * unit))
        / (2 * half)
        for unit in np.eye(2)
    ]


def _plane_points(points: Points) -> Array:
    cloud = as_points(points, "points", 1)
    if cloud.shape[1] != 2:
        raise ValueError(f"points must have shape (points, 2), not {tuple(np.shape(points))}")
    return cloud.cpu().double().numpy()


def _monotone(times: ArrayLike) -> Array:
    at = as_tensor(times, "times").cpu().double().numpy()
    if at.ndim != 1 or at.size < 2:
        raise ValueError(f"times must be at least two numbers, not an array of shape {at.shape}")
    gaps = np.diff(at)
    if not ((gaps > 0).all() or (gaps < 0).all()):
        raise ValueError("times must grow, or fall, from each to the next")
    return at


def _density_on(grid: Grid, density: ArrayLike) -> Array:
    values = as_tensor(density, "density").cpu().double().numpy()
    if values.shape != grid.shape:
        raise ValueError(f"density must have the grid's shape {grid.shape}, not {values.shape}")
    if (values < 0).any():
        raise ValueError(f"density must be nowhere negative, but falls to {values.min():.3g}")
    return values


def _middles(edges: Array) -> Array:
    return (edges[:-1] + edges[1:]) / 2


def _lattice(x: Array, y: Array) -> Array:
    return np.stack(np.meshgrid(x, y, indexing="ij"), -1)
