"""Nets and level lines against known shapes."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from geobook.flows import Grid
from geobook.linework import arrow_lines, arrow_panel, joined, level_lines, mesh


def test_level_lines_of_a_cone_are_circles():
    grid = Grid((60, 40), (-1.5, -1.0), (1.5, 1.0))
    radius = np.linalg.norm(grid.centres - [0.3, 0.1], axis=-1)
    x, y = level_lines(radius, grid, 0.5)
    known = np.isfinite(x)
    assert known.sum() > 40
    assert not known[-1]
    assert_allclose(np.hypot(x[known] - 0.3, y[known] - 0.1), 0.5, atol=2e-3)
    # A wide circle leaves the grid above and below: two arcs.
    assert np.isnan(level_lines(radius, grid, 1.12)[0]).sum() == 2
    assert len(level_lines(radius, grid, 9.0)[0]) == 0
    with pytest.raises(ValueError, match=r"the grid's shape \(60, 40\), not \(40, 60\)"):
        level_lines(radius.T, grid, 0.5)


def test_a_mesh_is_made_of_straight_lines():
    net = mesh((0.0, -1.0), (2.0, 1.0), lines=3, points=5)
    assert net.shape == (6, 5, 2)
    assert net[1].tolist() == [[1.0, -1.0], [1.0, -0.5], [1.0, 0.0], [1.0, 0.5], [1.0, 1.0]]
    assert net[5].tolist() == [[0.0, 1.0], [0.5, 1.0], [1.0, 1.0], [1.5, 1.0], [2.0, 1.0]]
    x, y = joined(net[[1, 5]])
    assert np.isnan(x).tolist() == np.isnan(y).tolist() == ([False] * 5 + [True]) * 2
    assert x[6:11].tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
    with pytest.raises(ValueError, match="lines must be a whole number of at least 2"):
        mesh((0, 0), (1, 1), lines=1)


def test_arrows_start_at_the_points_and_end_along_the_velocities():
    points, velocities = np.array([[0.0, 0.0], [1.0, 2.0]]), np.array([[2.0, 0.0], [0.0, -1.0]])
    x, y = arrow_lines(points, velocities, length=0.5, head=0.2)
    path = np.stack([x, y], 1).reshape(2, 6, 2)
    assert_allclose(path[:, 0], points)
    assert_allclose(path[:, 1], points + 0.5 * velocities)
    assert_allclose(path[:, 1], path[:, 3])
    assert_allclose(path[0, [2, 4]], [[0.8, -0.1], [0.8, 0.1]])
    assert np.isnan(path[:, 5]).all()


def test_arrows_must_lie_in_the_plane():
    with pytest.raises(ValueError, match=r"must both have shape \(n, 2\), not \(3, 2\), \(2, 2\)"):
        arrow_lines(np.zeros((3, 2)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="must both have shape"):
        arrow_lines(np.zeros((3, 3)), np.zeros((3, 3)))


def test_a_panel_has_an_arrow_in_the_middle_of_every_five_cells():
    field = np.ones((26, 20)), np.zeros((25, 21))
    grid = Grid((25, 20), (0.0, 0.0), (5.0, 4.0))
    panel = arrow_panel(field, 2, grid, "field", length=0.5)
    (line,) = panel.lines
    assert len(line.x) == 6 * 5 * 4
    assert_allclose([line.x[0], line.y[0]], [0.5, 0.5])
    assert_allclose([line.x[1], line.y[1]], [1.0, 0.5])
    assert (panel.xlim, panel.ylim, panel.title) == ((0.0, 5.0), (0.0, 4.0), "field")
    with pytest.raises(ValueError, match=r"faces of the grid of shape \(25, 20\), not \(4, 4\)"):
        arrow_panel((np.zeros((5, 4)), np.zeros((4, 5))), 2, grid)
