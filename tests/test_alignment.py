"""Choice of coordinates: what a network does not notice, and what alignment removes."""

import math

import pytest
import torch

from geobook import alignment, controls, measurements
from geobook.alignment import (
    align_tracks,
    procrustes,
    random_turn,
    shuffled_states,
    state_cosines,
    strangers_score,
    turned,
    turned_track,
)
from geobook.energy import kinetic_energy
from geobook.evaluation import settle_norms
from geobook.networks import Architecture, Stage, build
from geobook.scores import optimal_transport_score
from geobook.tracks import line_shape_score, record_tracks
from geobook.training import Recipe, train

SMALL = Architecture("small", (6,), (Stage((6,), 3, hidden=9),), 3)


def normal(*shape, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


def images(n=80):
    return normal(n, 6, seed=5).float(), torch.arange(n) % 3


def network(residual, norm, seed=0):
    made = build(SMALL, residual=residual, norm=norm, seed=seed)
    with torch.no_grad():  # no parameter at a special value, such as a bias of 0
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw(seed)))
    return settle_norms(made, images()[0]).eval()


def draw(seed):
    return torch.Generator().manual_seed(seed + 100)


def norms(made):
    return [float(parameter.detach().norm()) for parameter in made.parameters()]


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("norm", ["none", "inner", "both"])
@pytest.mark.parametrize("group", [None, "signed", "permutations"])
def test_a_turn_changes_neither_function_nor_norms(residual, norm, group):
    before = network(residual, norm)
    after = turned(before, seed=2, group=group)
    x, _ = images()
    assert torch.allclose(before(x), after(x), atol=1e-4)
    assert norms(before) == pytest.approx(norms(after), rel=1e-5)
    tracks = [record_tracks(made, x)[0].double() for made in (before, after)]
    scores = [line_shape_score(track) for track in tracks]
    if residual:
        assert scores[0] == pytest.approx(scores[1], rel=1e-5)
        assert not torch.allclose(tracks[0], tracks[1], atol=1e-2)
    else:
        assert abs(scores[0] - scores[1]) > 1e-3
        assert torch.equal(tracks[0][0], tracks[1][0])
        sizes = [track.norm(dim=2) for track in tracks]
        assert torch.allclose(sizes[0], sizes[1], rtol=1e-4)


@pytest.mark.parametrize("norm", ["none", "both"])
def test_a_turn_holds_in_training_mode_too(norm):
    before = network(False, norm)
    after = turned(before, seed=1)
    x, _ = images()
    assert torch.allclose(before.train()(x[:20]), after.train()(x[:20]), atol=1e-4)


@pytest.mark.parametrize("norm", ["none", "inner", "both"])
def test_training_commutes_with_turns(norm):
    recipe = Recipe(epochs=4, batch_size=20, weight_decay=0.01, clip=1.0)
    start = build(SMALL, residual=False, norm=norm)
    one = train(turned(start, 3), images(), recipe, progress=False).model
    other = turned(train(start, images(), recipe, progress=False).model, 3)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_a_network_with_second_norms_takes_no_orthogonal_turn():
    with pytest.raises(ValueError, match="group must be 'signed' or smaller"):
        turned(network(False, "both"), group="orthogonal")
    assert alignment.symmetry_group(network(False, "both")) == "signed"
    assert alignment.symmetry_group(network(False, "inner")) == "orthogonal"


def test_turned_refuses_other_networks():
    with pytest.raises(ValueError, match="fully connected"):
        turned(build("digits-conv"))
    with pytest.raises(TypeError, match="Network"):
        turned(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("group", alignment.GROUPS)
def test_random_turns_are_what_they_are_called(group):
    turn = random_turn(7, seed=4, group=group)
    assert torch.allclose(turn @ turn.T, torch.eye(7).double(), atol=1e-12)
    assert not torch.equal(turn, random_turn(7, seed=5, group=group))
    if group != "orthogonal":
        assert sorted(turn.abs().unique().tolist()) == [0, 1]
    if group == "permutations":
        assert float(turn.min()) == 0


def test_random_turns_are_uniform():
    mean = torch.stack([random_turn(4, seed) for seed in range(800)]).mean(0)
    assert float(mean.abs().max()) < 5 * 0.5 / math.sqrt(800)


@pytest.mark.parametrize("group", alignment.GROUPS)
def test_procrustes_finds_a_hidden_turn(group):
    x, hidden = normal(50, 5), random_turn(5, 3, group)
    y = x @ hidden  # so that Q = hidden brings it back
    assert torch.allclose(procrustes(x, y, group), hidden, atol=1e-9)
    shifted = procrustes(x + 3.0, y - 7.0, group, centred=True)
    assert torch.allclose(shifted, hidden, atol=1e-9)


@pytest.mark.parametrize("group", alignment.GROUPS)
def test_no_turn_beats_procrustes(group):
    x, y = normal(12, 4, seed=1), normal(12, 4, seed=2)
    least = float((x - y @ procrustes(x, y, group).T).square().sum())
    for seed in range(200):
        assert least <= float((x - y @ random_turn(4, seed, group).T).square().sum()) + 1e-9


def test_procrustes_agrees_with_its_formula():
    x, y = normal(12, 4, seed=1), normal(12, 4, seed=2)
    least = float((x - y @ procrustes(x, y).T).square().sum())
    nuclear = float(torch.linalg.svdvals(x.T @ y).sum())
    assert least == pytest.approx(float(x.square().sum() + y.square().sum()) - 2 * nuclear)


@pytest.mark.parametrize("group", alignment.GROUPS)
def test_alignment_gives_the_least_energy_of_all_coordinates(group):
    track = controls.independent_steps(4, 30, 5, seed=2) + 1.0
    aligned = align_tracks(track, group=group)
    assert torch.equal(aligned[0], track[0])
    assert torch.allclose(aligned.norm(dim=2), track.norm(dim=2))
    least = kinetic_energy(aligned)
    for seed in range(50):
        other = turned_track(track, seed, group)
        assert least <= kinetic_energy(other) + 1e-9
        again = align_tracks(other, group=group)
        assert kinetic_energy(again) == pytest.approx(least, rel=1e-9)
        assert line_shape_score(again) == pytest.approx(line_shape_score(aligned), rel=1e-6)


def test_alignment_undoes_a_turn_of_straight_tracks():
    x = normal(40, 3)
    track = torch.stack([x * (1 + layer) for layer in range(5)])
    crooked = turned_track(track, seed=1)
    assert line_shape_score(crooked) > 1.5
    assert torch.allclose(align_tracks(crooked), track, atol=1e-9)
    assert torch.allclose(align_tracks(crooked, centred=True), track, atol=1e-9)
    assert torch.allclose(align_tracks(crooked, fit=range(10)), track, atol=1e-9)


def test_centring_matters_where_the_mean_dwarfs_the_rest():
    cloud = normal(60, 3)
    turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0]).double())
    shift = torch.tensor([50.0, 0.0, 0.0]).double()
    track = torch.stack([cloud + shift, cloud @ turn + shift])
    centred = align_tracks(track, centred=True)
    middle = centred - centred.mean(1, keepdim=True)
    assert torch.allclose(middle[0], middle[1], atol=1e-9)
    assert kinetic_energy(align_tracks(track)) < 0.01 * kinetic_energy(centred)


def test_turning_together_keeps_the_scores():
    track = controls.independent_steps(4, 20, 6)
    other = turned_track(track, 3, together=True)
    assert line_shape_score(other) == pytest.approx(line_shape_score(track))
    assert not torch.allclose(other, track)


def test_with_few_points_alignment_makes_optimal_maps_of_nothing():
    states = controls.independent_states(2, 40, 30, seed=0)
    aligned = align_tracks(states, fit=range(20))
    assert optimal_transport_score(states[0, :20], states[-1, :20]) < 0.3
    assert optimal_transport_score(aligned[0, :20], aligned[-1, :20]) == 1
    assert optimal_transport_score(aligned[0, 20:], aligned[-1, 20:]) < 0.3


@pytest.mark.parametrize("fit", [[], [0, 99], [-1], [0.5], "all", [[0, 1]]])
def test_points_that_are_not_there_are_refused(fit):
    with pytest.raises(ValueError, match="fit must name points, numbers from 0 to 4"):
        align_tracks(normal(3, 5, 2), fit=fit)


def test_strangers_score_is_that_of_orthogonal_states():
    lengths = torch.tensor([2.0, 0.5, 0.7, 3.0, 1.0])
    track = torch.diag(lengths)[:, None, :]
    assert strangers_score(track) == pytest.approx(line_shape_score(track), rel=1e-6)
    equal = controls.independent_states(5, 50, 4000)
    assert strangers_score(equal) == pytest.approx(5, rel=0.01)
    growing = torch.diag(1000.0 ** torch.arange(5))[:, None, :]
    assert strangers_score(growing) == pytest.approx(2, rel=0.01)


def test_strangers_score_of_a_point_that_never_leaves_the_origin_is_one():
    assert strangers_score(torch.zeros(4, 2, 3)) == 1


def test_state_cosines():
    x = normal(10, 3)
    found = state_cosines(torch.stack([x, 2 * x, -x, torch.zeros_like(x)]))
    wanted = torch.tensor([[1, 1, -1, 0], [1, 1, -1, 0], [-1, -1, 1, 0], [0, 0, 0, 0]])
    assert torch.allclose(found, wanted.double())


def test_shuffled_states_keep_clouds_and_classes():
    track, labels = normal(3, 30, 2), torch.arange(30) % 3
    dealt = shuffled_states(track, seed=1)
    within = shuffled_states(track, labels, seed=1)
    for layer in range(3):
        for other in (dealt, within):
            assert not torch.equal(other[layer], track[layer])
            assert torch.equal(other[layer].sort(0).values, track[layer].sort(0).values)
        for c in range(3):
            mine = labels == c
            assert torch.equal(
                within[layer, mine].sort(0).values, track[layer, mine].sort(0).values
            )
    with pytest.raises(ValueError, match="one class for each of 30 points"):
        shuffled_states(track, labels[:5])


def test_what_the_experiment_keeps():
    made = network(False, "none")
    found = measurements.gauge_measures(made, images())
    track = record_tracks(made, images()[0])[0]
    assert found["lss_aligned"] == pytest.approx(line_shape_score(align_tracks(track)))
    assert 0 < found["energy_kept"] <= 1
    assert found["lss_aligned"] < found["lss_turned"]
    assert set(found) >= {"ots_aligned", "lss_held_out", "lss_shuffled_classes", "state_cosine"}
