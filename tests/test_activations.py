"""Activated matrices: the linear map of one pattern, and how many equations a chain can meet."""

import pytest
import torch

import geobook
from geobook import activations

CHAIN = activations.draw_chain(4, 6, seed=3)


def cloud(n, d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def product(matrices):
    whole = matrices[0]
    for matrix in matrices[1:]:
        whole = matrix @ whole
    return whole


def test_the_product_of_activated_matrices_is_the_chain_and_its_derivative():
    for point in cloud(20, 6):
        matrix = product(activations.activated_matrices(CHAIN, point))
        assert torch.allclose(matrix @ point, activations.run_chain(CHAIN, point))
        slope = torch.func.jacrev(lambda x: torch.relu(torch.relu(torch.relu(
            x @ CHAIN[0].T) @ CHAIN[1].T) @ CHAIN[2].T) @ CHAIN[3].T)(point)  # fmt: skip
        assert torch.allclose(matrix, slope)


def test_activated_matrices_by_hand():
    first, second = activations.activated_matrices([[[1.0, 2], [3, -9]], [[1, 2], [3, 4]]], [1, 1])
    assert first.tolist() == [[1, 2], [0, 0]]
    assert second.tolist() == [[1, 0], [3, 0]]


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("norm", ["none", "inner", "both"])
def test_a_network_held_to_a_pattern_is_the_affine_map_it_says(residual, norm):
    data = geobook.data.load("digits", "test")
    network = geobook.build("digits", residual=residual, norm=norm, blocks=3, seed=1)
    geobook.evaluation.settle_norms(network, data.images)
    network.train()
    point = data.images[7]
    found = geobook.activated_map(network, point)
    assert network.training
    near = point + 1e-5 * cloud(40, 64, 1).float().view(40, 1, 8, 8)
    same = (activations.activation_pattern(network, near) == found.pattern[:, None]).all(2).all(0)
    assert int(same.sum()) > 10
    network.eval()
    with torch.no_grad():
        assert torch.allclose(found(near[same]), network(near[same]), rtol=1e-3, atol=1e-4)
        far = data.images[:50]
        held = activations.hold_pattern(network, found.pattern, far)
        assert torch.allclose(found(far), held, rtol=1e-3, atol=1e-3)
        assert (held - network(far)).abs().max() > 0.1


def test_rank_of_one_layer_is_that_of_linear_regression():
    for n in (1, 3, 6, 9):
        assert activations.equation_rank(activations.draw_chain(1, 6), cloud(n, 6)) == 6 * min(n, 6)


def test_rank_of_two_layers_is_all_weights_but_the_idle_scales():
    for d in (4, 6, 8):
        chain = activations.draw_chain(2, d, seed=1)
        assert activations.equation_rank(chain, cloud(12 * d, d)) == 2 * d * d - d
    assert [activations.equation_bound(L, 6) for L in (1, 2, 3)] == [6, 11, 16]


def test_slope_against_finite_differences():
    x, weights = cloud(5, 6), [w[None].clone() for w in CHAIN]
    values, slope = activations._values_and_slope(weights, x[None])
    move = [1e-7 * cloud(6, 6, seed)[None] for seed in range(4)]
    moved, _ = activations._values_and_slope(
        [w + m for w, m in zip(weights, move, strict=True)], x[None]
    )
    predicted = slope[0] @ torch.cat([m.flatten() for m in move])
    assert torch.allclose((moved - values).flatten(), predicted, rtol=1e-4, atol=1e-12)


def test_linear_regression_meets_d_random_labels_and_no_more():
    assert (activations.fit_random_labels(1, 4, 4, sets=5) < 1e-6).all()
    assert (activations.fit_random_labels(1, 4, 5, sets=5) > 1e-3).all()


def test_wide_hidden_layers_meet_more_than_d():
    assert (activations.fit_random_labels(2, 3, 6, hidden=24, sets=3, seed=2) < 1e-6).all()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: activations.run_chain([], cloud(1, 2)), "at least one matrix"),
        (lambda: activations.run_chain([[1.0, 2.0]], cloud(1, 2)), "must be a matrix"),
        (lambda: activations.run_chain([cloud(3, 2), cloud(2, 2)], cloud(1, 2)), "3 columns"),
        (lambda: activations.run_chain(CHAIN, cloud(2, 5)), "x must have shape"),
        (lambda: activations.activated_matrices(CHAIN, cloud(2, 6)), "one point"),
        (lambda: activations.activation_pattern(geobook.build("mnist", blocks=1), cloud(1, 784)),
         "no stem"),
        (lambda: activations.activation_pattern(geobook.build("digits-conv", blocks=1),
                                                cloud(1, 64)), "fully connected"),
        (lambda: activations.hold_pattern(geobook.build("digits"), torch.ones(2, 64).bool(),
                                          cloud(1, 64)), "pattern must have shape"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()
