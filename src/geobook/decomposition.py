"""What part of a field, or of a map, is transport, and what part only stirs.

Helmholtz takes a vector field apart, v = grad phi + w with div w = 0 (the paper's eq. (15));
Brenier's polar factorisation takes a map apart, T = T* o s, into the optimal map T* and a
rearrangement s that leaves the distribution as it was (Proposition 2). To first order the second
is the first: for T = Id + eps v, T* = Id + eps grad phi and s = Id + eps w up to eps^2 (Brenier,
Communications on Pure and Applied Mathematics 44, 1991). There w must be tangential at the
boundary of a bounded domain and, for a distribution of density rho that is not constant,
div(rho w) = 0.

Fields live on grids whose axis 0 is x and axis 1 is y:

* periodic box: an array (2, nx, ny), both components at the same places; derivatives are those of
  the Fourier series.
* bounded box: a pair (u, v) of velocities across the cells' faces (the staggered, or MAC, grid),
  of shapes (nx + 1, ny) and (nx, ny + 1). `geobook.flows.Grid` evaluates fields at either places,
  `to_faces` and `to_centres` pass from one to the other by linear interpolation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.fft import dctn, fft2, fftfreq, idctn, ifft2
from scipy.sparse.linalg import splu
from torch import Tensor

from geobook.gaussians import Gaussian, gaussian_optimal_map
from geobook.transport import Assignment, optimal_assignment
from geobook.validation import Points, as_point_pair, as_tensor, one_of, positive

Array = np.ndarray
FaceField = tuple[Array, Array]
GridField = Array | FaceField

BOUNDARIES = ("periodic", "bounded")


@dataclass(frozen=True, eq=False)
class HelmholtzParts:
    """The parts of a field; they add up to it and are orthogonal, both to rounding.

    Attributes
    ----------
    curl_free : array (2, nx, ny), or pair of arrays (nx + 1, ny), (nx, ny + 1)
        grad phi.
    divergence_free : like `curl_free`
        w; on a bounded box it does not cross the boundary.
    harmonic : like `curl_free`
        What has neither divergence nor curl. On the periodic box the mean; and, along a side with
        an even number of points, the Nyquist modes (+1, -1, +1, ...), whose derivative a grid
        cannot see: they count as constant. Zero on a bounded box, which has no holes.
    potential : array, shape (nx, ny)
        phi, of mean 0, at the points of the periodic grid or the centres of the bounded one.
    stream : array, shape (nx, ny) or (nx + 1, ny + 1)
        psi with w = (d psi / dy, - d psi / dx): at the points of the periodic grid (of mean 0), or
        at the corners of the bounded one (0 on the boundary).
    """

    curl_free: GridField
    divergence_free: GridField
    harmonic: GridField
    potential: Array
    stream: Array

    @property
    def shares(self) -> dict[str, float]:
        """Shares of the kinetic energy of the three parts, summing to 1.

        The energy is the sum of squares, where faces on the boundary, which have a cell on one side
        only, count half. Of a zero field the shares are all 0.
        """
        return _as_shares(self._energies())

    @property
    def energy(self) -> float:
        """Sum of squares of the field, faces on the boundary counting half."""
        return sum(self._energies().values())

    def _energies(self) -> dict[str, float]:
        names = ("curl_free", "divergence_free", "harmonic")
        return {name: _energy(getattr(self, name)) for name in names}


def helmholtz(
    field: ArrayLike | Sequence[ArrayLike],
    spacing: float | tuple[float, float],
    boundary: str = "periodic",
) -> HelmholtzParts:
    """Take a field on a grid apart: curl-free, divergence-free, harmonic (the paper's eq. (15)).

    Parameters
    ----------
    field : array (2, nx, ny), or pair of arrays (nx + 1, ny), (nx, ny + 1)
        The former on a periodic box, the latter, velocities across the faces, on a bounded one.
    spacing : float or (float, float)
        Distance of grid points along x and y.
    boundary : {"periodic", "bounded"}
        On the bounded box the divergence-free part is tangential, w.n = 0, so that the gradient
        carries all that crosses the boundary (d phi / dn = v.n). It is this decomposition that
        belongs to rearrangements of the box.

    Returns
    -------
    HelmholtzParts

    Raises
    ------
    ValueError
        If the field's shape does not fit the boundary, or the spacing is not positive.

    Examples
    --------
    >>> x = np.arange(16) * 2 * np.pi / 16
    >>> field = np.broadcast_to(np.cos(x)[:, None], (2, 16, 16))
    >>> {name: round(share, 6) for name, share in helmholtz(field, x[1]).shares.items()}
    {'curl_free': 0.5, 'divergence_free': 0.5, 'harmonic': 0.0}
    """
    sides = _sides(spacing)
    if one_of(boundary, "boundary", BOUNDARIES) == "periodic":
        return _periodic_parts(_centre_field(field), sides)
    return _bounded_parts(_face_field(field), sides)


@dataclass(frozen=True, eq=False)
class WeightedParts:
    """The parts of a field on a bounded box, orthogonal where a density weighs the product.

    Attributes
    ----------
    curl_free : pair of arrays (nx + 1, ny), (nx, ny + 1)
        grad phi.
    divergence_free : like `curl_free`
        w, with div(density w) = 0; it does not cross the boundary. Its own divergence need not
        vanish.
    potential : array, shape (nx, ny)
        phi, of mean 0, at the centres.
    face_density : pair of arrays (nx + 1, ny), (nx, ny + 1)
        The density on the faces: means of the two cells, or the one cell's on the boundary.
    """

    curl_free: FaceField
    divergence_free: FaceField
    potential: Array
    face_density: FaceField

    @property
    def shares(self) -> dict[str, float]:
        """Shares of the energy of the two parts, summing to 1; both 0 for a zero field."""
        return _as_shares(self._energies())

    @property
    def energy(self) -> float:
        """Sum of density times square of the field, faces on the boundary counting half."""
        return sum(self._energies().values())

    def _energies(self) -> dict[str, float]:
        return {
            name: _energy(_times(getattr(self, name), self.face_density, 0.5))
            for name in ("curl_free", "divergence_free")
        }


def weighted_helmholtz(
    field: Sequence[ArrayLike], density: ArrayLike, spacing: float | tuple[float, float]
) -> WeightedParts:
    """Take a field on a bounded box apart for a density mu that is not constant.

    v = grad phi + w, where w is orthogonal to all gradients in L^2(mu): div(mu w) = 0 inside and
    w.n = 0 on the boundary. It is this splitting that belongs to maps which keep mu as it is
    (Brenier 1991), and the paper's eq. (15) is its case of constant mu. phi solves
    div(mu grad phi) = div(mu v), a sparse linear system on the staggered grid, directly.

    Parameters
    ----------
    field : pair of arrays (nx + 1, ny), (nx, ny + 1)
        Velocities across the faces.
    density : array, shape (nx, ny)
        At the centres of the cells, above 0 throughout; a constant factor does nothing.
    spacing : float or (float, float)
        Distance of grid points along x and y.

    Returns
    -------
    WeightedParts

    Raises
    ------
    ValueError
        If the field's shape is not that of velocities across faces, the density does not fit it
        or is not positive, or the spacing is not.

    Examples
    --------
    >>> field = np.zeros((5, 4)), np.ones((4, 5))
    >>> round(weighted_helmholtz(field, np.ones((4, 4)), 0.25).shares["curl_free"], 6)
    1.0
    """
    sides, faces = _sides(spacing), _face_field(field)
    cells = _numbers(density, "density")
    if cells.shape != (faces[1].shape[0], faces[0].shape[1]):
        wanted = (faces[1].shape[0], faces[0].shape[1])
        raise ValueError(f"density must have shape {wanted}, as the field, not {cells.shape}")
    if not (cells > 0).all():
        raise ValueError(f"density must be above 0 everywhere, but falls to {cells.min():.3g}")
    weights = _on_faces(cells), _on_faces(cells.T).T
    inner = _inside(_times(faces, weights))
    potential = _poisson_weighted(_face_divergence(inner, sides), weights, sides)
    gradient = _face_gradient(potential, faces, sides)
    rest = faces[0] - gradient[0], faces[1] - gradient[1]
    return WeightedParts(gradient, rest, potential, weights)


def divergence(
    field: ArrayLike | Sequence[ArrayLike],
    spacing: float | tuple[float, float],
    boundary: str = "periodic",
) -> Array:
    """Divergence of a field on a grid, by the derivatives that `helmholtz` works with.

    Parameters and errors are those of `helmholtz`.

    Returns
    -------
    array, shape (nx, ny)
        At the points of the periodic grid, or the centres of the bounded one.
    """
    sides = _sides(spacing)
    if one_of(boundary, "boundary", BOUNDARIES) == "bounded":
        return _face_divergence(_face_field(field), sides)
    u, v = _centre_field(field)
    kx, ky = _wave_numbers(u.shape, sides)
    return ifft2(1j * (kx * fft2(u) + ky * fft2(v))).real


def curl(
    field: ArrayLike | Sequence[ArrayLike],
    spacing: float | tuple[float, float],
    boundary: str = "periodic",
) -> Array:
    """Curl dv/dx - du/dy of a field on a grid, by the derivatives that `helmholtz` works with.

    Parameters and errors are those of `helmholtz`.

    Returns
    -------
    array, shape (nx, ny) or (nx - 1, ny - 1)
        At the points of the periodic grid, or the inner corners of the bounded one.
    """
    sides = _sides(spacing)
    if one_of(boundary, "boundary", BOUNDARIES) == "bounded":
        u, v = _face_field(field)
        return np.diff(v[:, 1:-1], axis=0) / sides[0] - np.diff(u[1:-1], axis=1) / sides[1]
    u, v = _centre_field(field)
    kx, ky = _wave_numbers(u.shape, sides)
    return ifft2(1j * (kx * fft2(v) - ky * fft2(u))).real


def to_faces(field: ArrayLike) -> FaceField:
    """Interpolate a field at the centres (2, nx, ny) linearly to the faces.

    On the boundary it is continued linearly from inside.

    Returns
    -------
    u, v : array, shape (nx + 1, ny) and (nx, ny + 1)

    Raises
    ------
    ValueError
        If the field does not have shape (2, nx, ny).
    """
    u, v = _centre_field(field)
    return _between(u), _between(v.T).T


def to_centres(field: Sequence[ArrayLike]) -> Array:
    """Average velocities across the faces (nx + 1, ny), (nx, ny + 1) to the centres (2, nx, ny).

    Raises
    ------
    ValueError
        If the shapes are not those of a field on faces.
    """
    u, v = _face_field(field)
    return np.stack([(u[1:] + u[:-1]) / 2, (v[:, 1:] + v[:, :-1]) / 2])


@dataclass(frozen=True, eq=False)
class PolarFactorization:
    """A map x_i -> y_i as y = T* o s, on the points where it is known.

    Attributes
    ----------
    rearrangement : Tensor of int64, shape (n,)
        ``s(x_i) = x[rearrangement[i]]``: a permutation of the points.
    rearranged : Tensor, shape (n, ...)
        The points s(x_i).
    optimal_images : Tensor, shape (n, ...)
        T*(x_i), so that ``optimal_images[rearrangement]`` is y exactly.
    energy : float
        Mean of |y_i - x_i|^2.
    optimal_energy : float
        Mean of |T*(x_i) - x_i|^2 = W2^2, never more than `energy`.
    rearrangement_energy : float
        Mean of |s(x_i) - x_i|^2.
    variance : float
        Mean of |x_i - mean|^2.
    pairing : Assignment
        The optimal pairing with its certificate.
    """

    rearrangement: Tensor
    rearranged: Tensor
    optimal_images: Tensor
    energy: float
    optimal_energy: float
    rearrangement_energy: float
    variance: float
    pairing: Assignment

    @property
    def kept(self) -> float:
        """Share of the points that s leaves where they are: the score OTS of the map."""
        return self.pairing.kept

    @property
    def wasted(self) -> float:
        """Share of the energy that the optimal map saves, in [0, 1]; 0 if nothing moves.

        It depends on the size of the image: of images r y of the same points it is at most about
        4 / r for large r, whatever the pairing. Compare maps by `stirring`.
        """
        return 1 - self.optimal_energy / self.energy if self.energy else 0.0

    @property
    def stirring(self) -> float:
        """How far s moves the points: mean of |s(x_i) - x_i|^2 over twice the variance.

        0 if the map is optimal; 1 is the mean over all permutations, so what a map without any
        order has; 2 is the most, a point reflection. To shift the images, or to multiply them by a
        positive number, changes nothing.
        """
        if self.variance == 0:
            return 0.0
        return self.rearrangement_energy / (2 * self.variance)


def polar_factorization(x: Points, y: Points) -> PolarFactorization:
    """Factor a map known on a sample into an optimal map after a rearrangement (Proposition 2).

    T* pairs the clouds x and y at least cost, and s = T*^-1 o y permutes the points of x. On the
    sample this is exact. As an estimate of the factors of a map of distributions it converges
    slowly: a permutation of n points cannot follow s closer than the distance of neighbours, of
    order n^(-1/d). For a linear map of normal points in the plane the root mean square error of T*
    was .34, .23, .14 at n = 500, 1000, 4000, about n^(-0.4). In high dimension, where points
    are further apart than a mild map moves them, the identity tends to be the optimal pairing.

    Parameters
    ----------
    x, y : array or Tensor, shape (n, ...)
        Points and their images.

    Returns
    -------
    PolarFactorization
        Tensors of the dtype and on the device of the clouds.

    Raises
    ------
    ValueError, MemoryError, ArithmeticError
        As `geobook.transport.optimal_assignment`.

    Examples
    --------
    >>> x = torch.tensor([[0.0], [1.0], [5.0]])
    >>> polar_factorization(x, x.flip(0)).optimal_images.flatten()
    tensor([0., 1., 5.])
    """
    start, end = as_point_pair(x, y)
    pairing = optimal_assignment(start, end)
    partner = pairing.permutation
    rearrangement = torch.empty_like(partner)
    rearrangement[partner] = torch.arange(len(partner), device=partner.device)
    rearranged, images = start[rearrangement], end[partner]
    shape = tuple(np.shape(x))
    return PolarFactorization(
        rearrangement=rearrangement,
        rearranged=rearranged.reshape(shape),
        optimal_images=images.reshape(shape),
        energy=_mean_square(end - start),
        optimal_energy=_mean_square(images - start),
        rearrangement_energy=_mean_square(rearranged - start),
        variance=_mean_square(start - start.mean(0)),
        pairing=pairing,
    )


def stirring(x: Points, y: Points, labels: Points | None = None) -> float:
    """How far the rearrangement in a map x_i -> y_i moves the points; 0 for optimal maps.

    Parameters
    ----------
    x, y : array or Tensor, shape (n, ...)
        Points and their images.
    labels : array or Tensor of int, shape (n,), optional
        Classes. The map is then factored on each class by itself, and the value is the mean over
        the classes, weighted with their sizes: what the labels demand, which class goes where,
        drops out.

    Returns
    -------
    float
        `PolarFactorization.stirring`: 1 for a map without any order, 2 at most.

    Raises
    ------
    ValueError
        If there is not one label for each point, or a class has a single point; and as
        `polar_factorization`.

    Examples
    --------
    >>> x = torch.tensor([[0.0], [1.0], [5.0], [6.0]])
    >>> y = torch.tensor([[5.0], [6.0], [0.0], [1.0]])
    >>> round(stirring(x, y), 2), stirring(x, y, [0, 0, 1, 1])
    (1.92, 0.0)
    """
    start, end = as_point_pair(x, y)
    if labels is None:
        return polar_factorization(start, end).stirring
    classes = torch.as_tensor(labels, device=start.device)
    if classes.shape != (len(start),):
        raise ValueError(
            f"labels must hold one class for each of {len(start)} points, "
            f"not have shape {tuple(classes.shape)}"
        )
    total = 0.0
    for number in classes.unique():
        mine = classes == number
        total += int(mine.sum()) * polar_factorization(start[mine], end[mine]).stirring
    return total / len(start)


@dataclass(frozen=True, eq=False)
class LinearisedPolar:
    """The factors of x + eps v, as velocities: what eq. (15) says of them to first order.

    Attributes
    ----------
    optimal_velocity : Tensor, shape (n, ...)
        (T*(x_i) - x_i) / eps, near grad phi(x_i).
    rearrangement_velocity : Tensor, shape (n, ...)
        (s(x_i) - x_i) / eps, near w(x_i).
    optimal_energy : float
        Mean square of the former, near the mean of |grad phi|^2.
    energy : float
        Mean of |v|^2.
    resolution : float
        Mean distance to the nearest other point, divided by eps times the root of `energy`. The
        estimate means something only where this is well below 1.
    factorization : PolarFactorization
        Of x -> x + eps v.
    """

    optimal_velocity: Tensor
    rearrangement_velocity: Tensor
    optimal_energy: float
    energy: float
    resolution: float
    factorization: PolarFactorization


def linearised_polar(x: Points, velocity: Points, epsilon: float) -> LinearisedPolar:
    """Polar factors of the map x + eps v on a sample, divided by eps (the paper's eq. (15)).

    Two errors work against each other. Of the limit eps -> 0 the terms of order eps are missing,
    so eps should be small. But a sample of n points has a distance h between neighbours, and if
    eps |v| is not large against h the identity is the optimal pairing: then T* = Id + eps v,
    with w still in it. So n has to grow before eps falls (h << eps |v|), and pointwise the error
    is of order h / eps + eps; means over regions are better. Random points differ more than
    their distance makes needful, and their `optimal_energy` comes out too large; points on a
    lattice, in the middles of equal cells, do better by far. For the limit without sampling see
    `linear_polar_factorization`.

    Parameters
    ----------
    x : array or Tensor, shape (n, ...)
        Points.
    velocity : array or Tensor, shape (n, ...)
        v at the points.
    epsilon : float
        Length of the step, above 0.

    Raises
    ------
    ValueError
        If the shapes differ or epsilon is not positive; and as `polar_factorization`.
    """
    step = positive(epsilon, "epsilon")
    points, speed = as_point_pair(x, velocity)
    shape = tuple(np.shape(x))
    factors = polar_factorization(points, points + step * speed)
    energy = _mean_square(speed)
    moved = step * math.sqrt(energy)
    return LinearisedPolar(
        optimal_velocity=((factors.optimal_images - points) / step).reshape(shape),
        rearrangement_velocity=((factors.rearranged - points) / step).reshape(shape),
        optimal_energy=factors.optimal_energy / step**2,
        energy=energy,
        resolution=_neighbour_distance(points) / moved if moved else math.inf,
        factorization=factors,
    )


def linear_polar_factorization(
    matrix: ArrayLike, covariance: ArrayLike = 1.0
) -> tuple[Array, Array]:
    """Polar factors of the linear map B x of a centred Gaussian, in closed form (Proposition 2).

    The optimal factor A is symmetric and positive definite and takes N(0, S) to N(0, B S B^T); the
    rearrangement R = A^-1 B leaves N(0, S) as it is, R S R^T = S. For S = Id they are the
    polar decomposition of the matrix, and R is a rotation or reflection. For B = Id + eps M and
    S = Id they are Id + eps (M + M^T) / 2 and Id + eps (M - M^T) / 2 up to eps^2: eq. (15).

    Parameters
    ----------
    matrix : array, shape (d, d)
        B, invertible.
    covariance : array, shape (d, d), or float
        S, positive definite; a number stands for that multiple of the identity.

    Returns
    -------
    optimal, rearrangement : array, shape (d, d)
        A and R, with ``A @ R = B``.

    Raises
    ------
    ValueError
        If the matrix is not square or not invertible, or the covariance does not fit.

    Examples
    --------
    >>> optimal, turn = linear_polar_factorization([[0.0, -2.0], [2.0, 0.0]])
    >>> optimal.round(6) + 0.0, turn.round(6) + 0.0
    (array([[2., 0.],
           [0., 2.]]), array([[ 0., -1.],
           [ 1.,  0.]]))
    """
    linear = _numbers(matrix, "matrix")
    if linear.ndim != 2 or linear.shape[0] != linear.shape[1]:
        raise ValueError(f"matrix must have shape (d, d), not {linear.shape}")
    if np.linalg.matrix_rank(linear) < len(linear):
        raise ValueError("matrix must be invertible")
    start = Gaussian(np.zeros(len(linear)), covariance)
    end = Gaussian(start.mean, linear @ start.covariance @ linear.T)
    optimal = gaussian_optimal_map(start, end).matrix
    return optimal, np.linalg.solve(optimal, linear)


def _periodic_parts(field: Array, sides: tuple[float, float]) -> HelmholtzParts:
    shape = field.shape[1:]
    kx, ky = _wave_numbers(shape, sides)
    square = kx**2 + ky**2
    seen = square > 0
    inverse = seen / np.where(seen, square, 1.0)
    u, v = fft2(field[0]), fft2(field[1])
    along, across = (kx * u + ky * v) * inverse, (kx * v - ky * u) * inverse

    def back(*modes: Array) -> Array:
        return np.stack([ifft2(mode).real for mode in modes])

    return HelmholtzParts(
        curl_free=back(kx * along, ky * along),
        divergence_free=back(-ky * across, kx * across),
        harmonic=back(u * ~seen, v * ~seen),
        potential=back(-1j * along)[0],
        stream=back(1j * across)[0],
    )


def _wave_numbers(shape: tuple[int, ...], sides: tuple[float, float]) -> tuple[Array, Array]:
    """Wave numbers along x and y, 0 for the Nyquist mode: its derivative vanishes on the grid."""
    numbers = []
    for points, side in zip(shape, sides, strict=True):
        k = 2 * math.pi * fftfreq(points, side)
        if points % 2 == 0:
            k[points // 2] = 0.0
        numbers.append(k)
    return numbers[0][:, None], numbers[1][None]


def _bounded_parts(field: FaceField, sides: tuple[float, float]) -> HelmholtzParts:
    # With d phi / dn = v.n given, what crosses the boundary drops out of the Poisson equation.
    potential = _poisson_neumann(_face_divergence(_inside(field), sides), sides)
    gradient = _face_gradient(potential, field, sides)
    rest = field[0] - gradient[0], field[1] - gradient[1]
    stream = np.zeros((len(field[0]), field[1].shape[1]))
    stream[:, 1:] = rest[0].cumsum(1) * sides[1]
    # Its upper side is zero but for rounding, like the other three.
    stream[:, -1] = 0.0
    none = np.zeros_like(field[0]), np.zeros_like(field[1])
    return HelmholtzParts(gradient, rest, none, potential, stream)


def _poisson_neumann(source: Array, sides: tuple[float, float]) -> Array:
    """Solve Laplace(p) = source with no flux through the boundary, of mean 0, by cosines."""
    eigenvalues = [
        (2 * np.sin(math.pi * np.arange(cells) / (2 * cells)) / side) ** 2
        for cells, side in zip(source.shape, sides, strict=True)
    ]
    total = eigenvalues[0][:, None] + eigenvalues[1]
    total[0, 0] = 1.0
    modes = -dctn(source, norm="ortho") / total
    modes[0, 0] = 0.0
    return idctn(modes, norm="ortho")


def _poisson_weighted(source: Array, weights: FaceField, sides: tuple[float, float]) -> Array:
    """Solve div(weight grad p) = source with no flux through the boundary, of mean 0."""
    gradients = [
        sparse.diags_array([-1.0, 1.0], offsets=[0, 1], shape=(cells - 1, cells)) / side
        for cells, side in zip(source.shape, sides, strict=True)
    ]
    one_x, one_y = (sparse.eye_array(cells) for cells in source.shape)
    gradient = sparse.vstack(
        [sparse.kron(gradients[0], one_y), sparse.kron(one_x, gradients[1])], format="csr"
    )
    inner = np.concatenate([weights[0][1:-1].ravel(), weights[1][:, 1:-1].ravel()])
    matrix = (gradient.T @ sparse.diags_array(inner) @ gradient).tocsc()
    potential = np.zeros(source.size)
    # Only up to a constant: the value in the densest cell is held at 0.
    free = np.delete(np.arange(source.size), int(matrix.diagonal().argmax()))
    if free.size:
        symmetric = {"SymmetricMode": True}
        factors = splu(
            matrix[free][:, free], "MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=symmetric
        )
        potential[free] = factors.solve(-source.ravel()[free])
    return (potential - potential.mean()).reshape(source.shape)


def _inside(field: FaceField) -> FaceField:
    """Copy of a field that does not cross the boundary."""
    u, v = (part.copy() for part in field)
    u[[0, -1]], v[:, [0, -1]] = 0.0, 0.0
    return u, v


def _face_gradient(potential: Array, field: FaceField, sides: tuple[float, float]) -> FaceField:
    """Gradient inside; on the boundary the field itself."""
    u, v = (part.copy() for part in field)
    u[1:-1] = np.diff(potential, axis=0) / sides[0]
    v[:, 1:-1] = np.diff(potential, axis=1) / sides[1]
    return u, v


def _on_faces(cells: Array) -> Array:
    return np.concatenate([cells[:1], (cells[1:] + cells[:-1]) / 2, cells[-1:]])


def _times(field: FaceField, factor: FaceField, power: float = 1.0) -> FaceField:
    return field[0] * factor[0] ** power, field[1] * factor[1] ** power


def _as_shares(energies: dict[str, float]) -> dict[str, float]:
    total = sum(energies.values())
    return {name: energy / total if total else 0.0 for name, energy in energies.items()}


def _energy(field: GridField) -> float:
    total = sum(float((part**2).sum()) for part in field)
    if isinstance(field, tuple):
        u, v = field
        total -= float((u[[0, -1]] ** 2).sum() + (v[:, [0, -1]] ** 2).sum()) / 2
    return total


def _face_divergence(field: FaceField, sides: tuple[float, float]) -> Array:
    u, v = field
    return np.diff(u, axis=0) / sides[0] + np.diff(v, axis=1) / sides[1]


def _between(values: Array) -> Array:
    """Interpolate along axis 0 to places between and at both ends."""
    inner = (values[1:] + values[:-1]) / 2
    low, high = 1.5 * values[0] - 0.5 * values[1], 1.5 * values[-1] - 0.5 * values[-2]
    return np.concatenate([low[None], inner, high[None]])


def _centre_field(field: ArrayLike | Sequence[ArrayLike]) -> Array:
    if isinstance(field, tuple | list) and len({np.shape(part) for part in field}) > 1:
        raise ValueError(
            "field must be one array (2, nx, ny), not arrays of different shapes: velocities "
            "across faces need boundary='bounded'"
        )
    values = _numbers(field, "field")
    if values.ndim != 3 or len(values) != 2 or min(values.shape) < 2:
        raise ValueError(
            f"field must have shape (2, nx, ny) with nx and ny at least 2, not {values.shape}"
        )
    return values


def _face_field(field: ArrayLike | Sequence[ArrayLike]) -> FaceField:
    wanted = "field must be a pair of arrays (nx + 1, ny), (nx, ny + 1) of velocities across faces"
    if len(field) != 2:
        raise ValueError(f"{wanted}, not {len(field)} arrays")
    u, v = (_numbers(part, f"field[{index}]") for index, part in enumerate(field))
    fits = u.ndim == v.ndim == 2 and u.shape == (v.shape[0] + 1, v.shape[1] - 1)
    if not fits or min(*v.shape, u.shape[1]) < 1:
        raise ValueError(f"{wanted} (see to_faces), not {u.shape}, {v.shape}")
    return u, v


def _sides(spacing: float | tuple[float, float]) -> tuple[float, float]:
    sides = (spacing, spacing) if np.ndim(spacing) == 0 else tuple(spacing)
    if len(sides) != 2:
        raise ValueError(f"spacing must be a number or two (dx, dy), not {spacing!r}")
    return positive(sides[0], "spacing"), positive(sides[1], "spacing")


def _mean_square(vectors: Tensor) -> float:
    return float((vectors.double() ** 2).sum(1).mean())


def _neighbour_distance(points: Tensor) -> float:
    """Mean distance of a point to the nearest other one, over at most 256 of the points."""
    chosen = points[:: max(1, len(points) // 256)].double()
    nearest = torch.cdist(chosen, points.double()).topk(2, largest=False).values[:, 1]
    return float(nearest.mean())


def _numbers(value: Points, name: str) -> Array:
    return as_tensor(value, name).double().cpu().numpy()
