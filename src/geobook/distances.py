"""How near two data tracks come to each other (the paper's section 4.2).

The distance of the tracks of two points is that of their closest states in one and the same layer
(Definition 3). On a geodesic it is at least a b / sqrt(a^2 + b^2), where a is the distance of the
two starts and b that of the two ends (Theorem 1). Nothing there but the difference of the two
tracks matters: u^l = x_i^l - x_j^l runs from u^0, of length a, to u^L, of length b.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geobook import memory
from geobook.validation import Points, as_tensor, as_track, count, switch

# Differences are formed for so many values at once, in double precision: 64 MiB a temporary.
_VALUES_AT_ONCE = 2**23


@dataclass(frozen=True)
class TrackPairs:
    """Pairs of tracks, and how near to each other each pair comes.

    Attributes
    ----------
    pairs : Tensor of int64, shape (m, 2)
        Which points.
    first, last : Tensor, shape (m,)
        Distances a and b of the two starts and of the two ends.
    distance : Tensor, shape (m,)
        Distance of the tracks: the least over all layers (Definition 3).
    continuous : Tensor, shape (m,)
        The same with all points between two layers, on the segments that join the states.
    straight : Tensor, shape (m,)
        Distance at the layers if both tracks ran straight and in equal steps between their ends.
    nearest : Tensor of int64, shape (m,)
        The layer where the tracks are closest; the first of several.
    inner : Tensor, shape (m,)
        Inner product of the differences at the start and at the end. Where it is negative, the two
        points could gain by swapping their ends.
    """

    pairs: Tensor
    first: Tensor
    last: Tensor
    distance: Tensor
    continuous: Tensor
    straight: Tensor
    nearest: Tensor
    inner: Tensor

    @property
    def bound(self) -> Tensor:
        """What Theorem 1 promises on a geodesic: a b / sqrt(a^2 + b^2)."""
        return track_distance_bound(self.first, self.last)

    @property
    def ratio(self) -> Tensor:
        """Distance over bound: between 0 and sqrt(2), and 1 where the bound is 0."""
        return _over(self.distance, self.bound)

    @property
    def below(self) -> Tensor:
        """Whether the distance is less than the bound, by more than rounding."""
        return below_bound(self.distance, self.bound)

    @property
    def monotone(self) -> Tensor:
        """Whether a swap of the two ends would not be cheaper."""
        return self.inner >= 0

    @property
    def trivial(self) -> Tensor:
        """Whether the tracks are closest at an end, where no pair can be below the bound."""
        return self.distance >= torch.minimum(self.first, self.last)

    def __len__(self) -> int:
        return len(self.pairs)


def track_distance(track: Points, pairs: Points | None = None) -> Tensor:
    """Distance of tracks: min over the layers l of ||x_i^l - x_j^l|| (Definition 3, eq. (35)).

    Parameters
    ----------
    track : array or tensor, shape (L+1, n, ...)
        Tracks of n points, as `geobook.record_tracks` gives them.
    pairs : array or tensor of int, shape (m, 2), optional
        Which pairs (i, j); all by default.

    Returns
    -------
    tensor, shape (m,), or (n, n) for all pairs
        In the units of the track. The matrix is symmetric, with zeros on its diagonal.

    Raises
    ------
    ValueError
        If the track has fewer than two layers, no point, or values that are not finite; if a pair
        names a point that is not there.
    MemoryError
        If the matrix does not fit; nothing was taken then.

    Examples
    --------
    >>> track = [[[0.0], [3.0]], [[2.0], [3.0]], [[2.0], [7.0]]]
    >>> track_distance(track, [[0, 1]])
    tensor([1.], dtype=torch.float64)
    """
    states = as_track(track)
    if pairs is not None:
        return compare_tracks(states, pairs).distance
    points = states.shape[1]
    memory.require(
        points**2 * states.element_size(),
        states.device,
        f"the matrix of distances of n = {points} tracks",
        "give pairs, as geobook.distances.class_pairs draws them",
    )
    found = states.new_empty(points, points)
    at_once = max(1, _VALUES_AT_ONCE // max(1, points))
    for start in range(0, points, at_once):
        rows = slice(start, start + at_once)
        found[rows] = _cdist(states[0, rows], states[0])
        for state in states[1:]:
            torch.minimum(found[rows], _cdist(state[rows], state), out=found[rows])
    return found


def track_distance_bound(a: Points, b: Points) -> Tensor:
    """Least distance of two points on a geodesic: a b / sqrt(a^2 + b^2) (Theorem 1, eq. (36)).

    It is the height of the right triangle with legs a and b over its longest side.

    Parameters
    ----------
    a, b : array, tensor or number, not negative
        Distances of the two starts and of the two ends; shapes that go together.

    Returns
    -------
    tensor
        0 where a or b is 0; never more than the smaller one, never less than that over sqrt(2).

    Raises
    ------
    ValueError
        If a distance is negative, infinite or NaN.

    Examples
    --------
    >>> float(track_distance_bound(3.0, 4.0))
    2.4
    """
    first, last = (as_tensor(value, name) for value, name in ((a, "a"), (b, "b")))
    for value, name in ((first, "a"), (last, "b")):
        if bool((value < 0).any()):
            raise ValueError(f"{name} must not be negative, but its least is {float(value.min())}")
    longest = torch.hypot(first, last)
    # divided first: a product of large distances may be infinite, of small ones 0
    height = torch.where(longest > 0, first / longest * last, 0.0)
    return torch.minimum(height, torch.minimum(first, last))  # also after rounding


def compare_tracks(track: Points, pairs: Points) -> TrackPairs:
    """Say of chosen pairs of tracks how near they come and what Theorem 1 promises.

    Parameters
    ----------
    track : array or tensor, shape (L+1, n, ...)
        Tracks of n points.
    pairs : array or tensor of int, shape (m, 2)
        Which pairs (i, j).

    Returns
    -------
    TrackPairs
        In the units of the track.

    Raises
    ------
    ValueError
        As `track_distance`.
    """
    states = as_track(track)
    chosen = _pairs(pairs, states.shape[1]).to(states.device)
    at_once = max(1, _VALUES_AT_ONCE // (states.shape[0] * states.shape[2]))
    parts = [_compare(states, some) for some in chosen.split(at_once)]
    columns = [torch.cat(column) for column in zip(*parts, strict=True)]
    return TrackPairs(chosen, *columns)


def below_bound(distance: Points, bound: Points) -> Tensor:
    """Say which distances are less than their bound by more than rounding.

    Parameters
    ----------
    distance, bound : array or tensor, shapes that go together

    Returns
    -------
    tensor of bool
        False where the two agree to eight units in the last place of the distances' type.
    """
    found, least = as_tensor(distance, "distance"), as_tensor(bound, "bound")
    return found < least * (1 - 8 * torch.finfo(found.dtype).eps)


def class_room(
    track: Points,
    labels: Points,
    among: Points | None = None,
    among_labels: Points | None = None,
) -> Tensor:
    """Distance, layer by layer, from every state to the nearest one of another class.

    Its minimum over the layers is the distance to the nearest track of another class.

    Parameters
    ----------
    track : array or tensor, shape (L+1, n, ...)
        Tracks of n points.
    labels : array or tensor of int, shape (n,)
        Their classes.
    among, among_labels : arrays or tensors, shapes (L+1, m, ...) and (m,), optional
        The tracks to keep away from and their classes; the same tracks by default.

    Returns
    -------
    tensor, shape (L+1, n)
        Infinite for a point whose class is the only one.

    Raises
    ------
    ValueError
        If the tracks have unequal numbers of layers or dimensions, or the labels do not match.
    """
    states = as_track(track)
    others = states if among is None else as_track(among, "among")
    if others.shape[::2] != states.shape[::2]:
        raise ValueError(
            "among must have the layers and the dimension of track, "
            f"{tuple(states.shape[::2])}, not {tuple(others.shape[::2])}"
        )
    own = _classes(labels, "labels", states)
    theirs = own if among is None else _classes(among_labels, "among_labels", others)
    at_once = max(1, _VALUES_AT_ONCE // others.shape[1])
    room = states.new_empty(states.shape[:2])
    for start in range(0, states.shape[1], at_once):
        rows = slice(start, start + at_once)
        same = own[rows, None] == theirs[None]
        for layer, other in enumerate(others):
            far = _cdist(states[layer, rows], other).masked_fill_(same, torch.inf)
            room[layer, rows] = far.amin(1)
    return room


def class_pairs(
    labels: Points, different: bool = True, *, number: int | None = None, seed: int = 0
) -> Tensor:
    """List pairs of points of different classes, or of the same class.

    Parameters
    ----------
    labels : array or tensor of int, shape (n,)
        Class of each point.
    different : bool
        Whether the two points shall have different classes, or the same.
    number : int, optional
        How many to draw, without repetition; all if there are no more, and by default.
    seed : int
        Seed of the draw.

    Returns
    -------
    tensor of int64, shape (m, 2)
        Pairs (i, j) with i < j, in increasing order.

    Raises
    ------
    ValueError
        If the labels are no list, or there is no such pair.

    Examples
    --------
    >>> class_pairs([0, 0, 1]).tolist()
    [[0, 2], [1, 2]]
    """
    classes = as_tensor(labels, "labels")
    if classes.ndim != 1:
        raise ValueError(f"labels must have shape (points,), not {tuple(classes.shape)}")
    wanted = (classes[:, None] != classes[None]) == switch(different, "different")
    found = wanted.triu(1).nonzero()
    if not len(found):
        kind = "different classes" if different else "one class"
        raise ValueError(f"labels must hold two points of {kind}, not {len(classes)} without")
    if number is None or count(number, "number") >= len(found):
        return found
    generator = torch.Generator().manual_seed(count(seed, "seed", 0))
    drawn = torch.randperm(len(found), generator=generator)[:number].sort().values
    return found[drawn.to(found.device)]


def straightened(track: Points, steps: int | None = None) -> Tensor:
    """Replace every track by the straight one with the same ends, run in equal steps.

    Parameters
    ----------
    track : array or tensor, shape (L+1, n, ...)
        Tracks of n points.
    steps : int, optional
        How many; L by default.

    Returns
    -------
    tensor, shape (steps+1, n, d)
        State l is (1 - t) x^0 + t x^L at t = l / steps.
    """
    states = as_track(track)
    layers = len(states) if steps is None else count(steps, "steps") + 1
    time = torch.linspace(0, 1, layers, dtype=states.dtype, device=states.device)
    return torch.lerp(states[0], states[-1], time[:, None, None])


def _compare(states: Tensor, pairs: Tensor) -> tuple[Tensor, ...]:
    precise = states if states.device.type == "mps" else states.double()
    between = precise[:, pairs[:, 0]] - precise[:, pairs[:, 1]]
    lengths = torch.linalg.vector_norm(between, dim=2)
    distance, nearest = lengths.min(0)
    straight = torch.linalg.vector_norm(straightened(between), dim=2).amin(0)
    found = lengths[0], lengths[-1], distance, _continuous(between), straight
    inner = (between[0] * between[-1]).sum(1)
    return *(value.to(states.dtype) for value in found), nearest, inner.to(states.dtype)


def _continuous(between: Tensor) -> Tensor:
    """Least length (m,) on the polygons of differences (L+1, m, d)."""
    steps = between.diff(dim=0)
    squares = steps.square().sum(2)
    along = -(between[:-1] * steps).sum(2) / squares.masked_fill(squares == 0, 1.0)
    spots = between[:-1] + along.clamp(0.0, 1.0)[..., None] * steps
    return torch.linalg.vector_norm(spots, dim=2).amin(0)


def _over(distance: Tensor, bound: Tensor) -> Tensor:
    return torch.where(bound > 0, distance / bound, 1.0)


def _cdist(rows: Tensor, columns: Tensor) -> Tensor:
    # by differences, not by inner products, which lose the small distances
    return torch.cdist(rows, columns, compute_mode="donot_use_mm_for_euclid_dist")


def _classes(labels: Points | None, name: str, track: Tensor) -> Tensor:
    if labels is None:
        raise ValueError(f"{name} must hold a class for each of {track.shape[1]} points, not None")
    found = as_tensor(labels, name).to(track.device)
    if found.shape != track.shape[1:2]:
        raise ValueError(
            f"{name} must hold one class for each of {track.shape[1]} points, "
            f"not {tuple(found.shape)}"
        )
    return found


def _pairs(pairs: Points, points: int) -> Tensor:
    found = torch.as_tensor(np.asarray(pairs) if not isinstance(pairs, Tensor) else pairs)
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise TypeError(f"pairs must hold whole numbers, not {found.dtype}")
    if found.ndim != 2 or found.shape[1] != 2 or not len(found):
        raise ValueError(f"pairs must have shape (m, 2) with m > 0, not {tuple(found.shape)}")
    if int(found.min()) < 0 or int(found.max()) >= points:
        raise ValueError(
            f"pairs must name points 0 to {points - 1}, not {int(found.min())} to "
            f"{int(found.max())}"
        )
    return found.long()
