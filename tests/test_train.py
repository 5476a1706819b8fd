"""The training: the network's gradients, the attack, the step, the folding; and that a run can be had again exactly."""

import math
from dataclasses import fields, replace

import h5py
import numpy as np
import pytest
import reference
from PIL import Image

from nsnumpy import VGG, check_gradient
from nsnumpy.architecture import check_weights
from nsnumpy.backend import get_xp, to_host
from nsnumpy.workers import Workers
from weights_tools import mean_activations
from weights_tools.train import (
    Classifier,
    Pictures,
    Recipe,
    Stage,
    State,
    Trainer,
    TrainingError,
    attack,
    classifier,
    load_state,
    trainer,
)
from weights_tools.train.classifier import initial_parameters, network_layers
from weights_tools.train.cli import finish
from weights_tools.train.data import halved, middle_crops
from weights_tools.train.optimizer import one_cycle, sgd_step
from weights_tools.train.trainer import check_recipe

CLASSES = 4
WIDTHS = (3, 4, 5, 6, 7)
NAMES = list(initial_parameters(WIDTHS, CLASSES, 0, "conv3_1"))


@pytest.fixture
def network(make):
    """network(last) gives random parameters in float64, whose scales and shifts do something."""

    def network(last="conv3_1"):
        parameters = {}
        for name, array in initial_parameters(WIDTHS, CLASSES, 0, last).items():
            size = math.sqrt(2 / (9 * array.shape[-2])) if name.startswith("conv") and array.ndim == 4 else 0.3
            parameters[name] = size * make(*array.shape) + (1.0 if name.endswith("/gamma") else 0.0)
        return parameters

    return network


def read_only(array):
    if isinstance(array, np.ndarray):
        array.flags.writeable = False
    return array


# The network.


def loss_of(name, parameters, x, labels):
    """The loss and its gradient as a function of one of the parameters, or of the pictures."""

    def f(argument):
        if name == "input":
            return Classifier(parameters).loss(argument, labels, of_input=True)[:2]
        loss, gradients, _ = Classifier({**parameters, name: argument}).loss(x, labels)
        return loss, gradients[name]

    return f, x if name == "input" else parameters[name]


@pytest.fixture
def pictures(make, xp):
    """Three of 9 x 7 pixels, as odd after the first pooling, and their classes."""
    return make(3, 9, 7, 3), xp.asarray([2, 0, 3])


@pytest.mark.parametrize("name", ["input", *NAMES])
def test_the_gradient_of_the_loss(network, pictures, name):
    f, at = loss_of(name, network(), *pictures)
    assert check_gradient(f, at, step=1e-6) < 1e-6


@pytest.mark.parametrize(
    ("op", "index", "name"),
    [
        ("winograd_backward", None, "input"),
        ("avgpool_backward", None, "input"),
        ("relu_backward", None, "input"),
        ("global_average_backward", None, "input"),
        ("batchnorm_backward", 0, "input"),
        ("batchnorm_backward", 1, "conv2_1/gamma"),
        ("batchnorm_backward", 2, "conv2_1/beta"),
        ("softmax_cross_entropy", 1, "classes/bias"),
        ("linear_backward", 0, "conv3_1/weight"),
        ("linear_backward", 1, "classes/weight"),
        ("linear_backward", 2, "classes/bias"),
        ("winograd_backward_weight", 0, "conv1_1/weight"),
        ("winograd_backward_weight", 1, "conv2_2/weight"),
    ],
)
def test_an_op_that_is_wrong_by_a_thousandth_shows(monkeypatch, network, pictures, op, index, name):
    right = getattr(classifier, op)

    def wrong(*arguments):
        result = right(*arguments)
        if index is None:
            return 1.001 * result
        return (*result[:index], 1.001 * result[index], *result[index + 1 :])

    monkeypatch.setattr(classifier, op, wrong)
    f, at = loss_of(name, network(), *pictures)
    assert check_gradient(f, at, step=1e-6) > 1e-4


def test_nothing_is_written_into_and_threads_change_nothing(network, pictures):
    x, labels = pictures
    parameters = {name: read_only(array) for name, array in network().items()}
    plain, threaded = Classifier(parameters), Classifier(parameters)
    loss, gradients, statistics = plain.loss(x, labels)
    other, others, _ = threaded.loss(x, labels, Workers(3, 4000))
    assert other == pytest.approx(loss, rel=1e-12)
    assert list(gradients) != []
    for name in NAMES:
        assert to_host(others[name]) == pytest.approx(to_host(gradients[name]), rel=1e-9, abs=1e-12)
        assert gradients[name].shape == parameters[name].shape
    assert plain.loss(x, labels, of_input=True)[0] == loss
    assert plain.scores(x, statistics).shape == (3, CLASSES)


def test_statistics_are_those_of_each_normalisation(network, pictures):
    x, labels = pictures
    parameters = network()
    _, _, statistics = Classifier(parameters).loss(x, labels)
    first = np.stack(
        [reference.conv(to_host(p), to_host(parameters["conv1_1/weight"]), np.zeros(WIDTHS[0])) for p in to_host(x)]
    )
    assert to_host(statistics["conv1_1/mean"]) == pytest.approx(first.mean(axis=(0, 1, 2)), rel=1e-12)
    assert to_host(statistics["conv1_1/variance"]) == pytest.approx(first.var(axis=(0, 1, 2)), rel=1e-12)
    convolutions = [name for name in network_layers("conv3_1") if name.startswith("conv")]
    assert set(statistics) == {f"{name}/{what}" for name in convolutions for what in ("mean", "variance")}


def test_with_the_group_s_own_statistics_the_scores_are_those_of_the_loss(network, pictures):
    x, labels = pictures
    network = Classifier(network())
    loss, _, statistics = network.loss(x, labels)
    scores = to_host(network.scores(x, statistics))
    picked = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(3), to_host(labels)]
    assert loss == pytest.approx(picked.mean(), rel=1e-12)


@pytest.mark.parametrize("last", ["conv1_1", "conv1_2", "conv4_1"])
def test_it_may_end_at_any_convolution(network, make, xp, last):
    x, labels = make(2, 11, 9, 3), xp.asarray([1, 0])
    for name in ("input", f"{last}/weight", "conv1_1/beta"):
        f, at = loss_of(name, network(last), x, labels)
        assert check_gradient(f, at, step=1e-6, directions=2) < 1e-6


def test_initial_parameters_are_he_s_and_of_the_seed():
    widths = (24, 32, 40, 48, 56)
    parameters = initial_parameters(widths, 10, 5)
    convolutions = [name.removesuffix("/gamma") for name in parameters if name.endswith("/gamma")]
    assert convolutions == [name for name in network_layers("conv5_1") if name.startswith("conv")]
    channels = 3
    for name in convolutions:
        weight, filters = parameters[f"{name}/weight"], widths[int(name[4]) - 1]
        assert weight.shape == (3, 3, channels, filters)
        assert weight.var() == pytest.approx(2 / (9 * channels), rel=0.25)
        assert (parameters[f"{name}/gamma"] == np.ones(filters)).all()
        assert (parameters[f"{name}/beta"] == np.zeros(filters)).all()
        channels = filters
    assert parameters["classes/weight"].shape == (56, 10)
    assert not parameters["classes/bias"].any()
    assert {array.dtype for array in parameters.values()} == {np.dtype(np.float32)}
    again, other = initial_parameters(widths, 10, 5), initial_parameters(widths, 10, 6)
    assert all(np.array_equal(again[name], array) for name, array in parameters.items())
    assert not np.array_equal(other["conv3_1/weight"], parameters["conv3_1/weight"])
    for last in ("pool2", "conv6_1", "nonsense", ""):
        with pytest.raises(ValueError, match="is not a convolution of vgg19: choose from conv1_1, "):
            initial_parameters(widths, 10, 5, last)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
def test_the_folded_network_computes_the_same_features(network, dtype, tolerance):
    """On a picture of odd sides, at whose edges both see the mean colour."""
    rng = np.random.default_rng(3)
    parameters = {name: to_host(array).astype(dtype) for name, array in network("conv4_2").items()}
    statistics = {
        name.replace("/gamma", what): (0.1 + rng.random(array.shape)).astype(dtype)
        for name, array in parameters.items()
        if name.endswith("/gamma")
        for what in ("/mean", "/variance")
    }
    mean, x = np.array([0.4, 0.45, 0.5]), rng.random((2, 21, 19, 3))
    own = Classifier(parameters)
    file = own.fold(statistics, mean)
    check_weights(file.weights, file.architecture)
    assert (file.pooling, file.preprocessing.mean, file.preprocessing.std) == ("avg", (0.4, 0.45, 0.5), (1, 1, 1))
    vgg = VGG(file.weights, xp=np, preprocessing=file.preprocessing, dtype=dtype)
    F = vgg.forward(x.astype(dtype), ["conv4_2"])[0]["conv4_2"]
    scores = F.mean(axis=(1, 2)) @ parameters["classes/weight"] + parameters["classes/bias"]
    expected = own.scores((x - mean).astype(dtype), statistics)
    assert np.abs(scores - expected).max() < tolerance * np.abs(expected).max()


# The attack.


def test_a_random_start_is_uniform_by_volume_inside_the_ball():
    d = attack.random_in_ball(np.random.default_rng(0), (4000, 1, 1, 3), 0.7).astype(np.float64)
    assert d.shape == (4000, 1, 1, 3)
    r = np.linalg.norm(d.reshape(-1, 3), axis=1) / 0.7
    assert r.max() <= 1 + 1e-6
    volumes = np.sort(r) ** 3  # of the ball as large as each radius: uniform
    assert np.abs(volumes - (np.arange(4000) + 0.5) / 4000).max() < 0.03
    directions = d.reshape(-1, 3) / np.linalg.norm(d.reshape(-1, 3), axis=1, keepdims=True)
    assert np.abs(directions.mean(axis=0)).max() < 0.04
    assert np.abs(directions.T @ directions / 4000 - np.eye(3) / 3).max() < 0.03


def test_each_picture_has_its_own_ball():
    d = attack.random_in_ball(np.random.default_rng(0), (50, 6, 5, 3), 1.3)
    assert d.dtype == np.float32
    assert attack.norms(d).shape == (50, 1, 1, 1)
    r = np.linalg.norm(d.reshape(50, -1), axis=1)
    assert attack.norms(d).ravel() == pytest.approx(r, rel=1e-6)
    assert r.max() <= 1.3 * (1 + 1e-6)
    assert r.min() > 1.3 * 0.9  # in 90 dimensions nearly all of the ball is near its surface
    assert not attack.random_in_ball(np.random.default_rng(0), (50, 6, 5, 3), 0).any()


def waves(x):
    """A smooth function of each picture, and its gradient."""
    xp = get_xp(x)
    return xp.sin(3 * x).sum(axis=(1, 2, 3)) + (x * x).sum(axis=(1, 2, 3)), 3 * xp.cos(3 * x) + 2 * x


@pytest.mark.parametrize(("step", "steps"), [(0.75, 1), (0.2, 1), (0.2, 4), (3.0, 1)])
def test_the_attack_raises_the_loss_and_stays_in_the_ball(make, step, steps):
    x, direction = make(6, 5, 4, 3), make(6, 5, 4, 3)
    d = read_only(0.45 * direction / attack.norms(direction))
    moved = attack.perturb(lambda x: waves(x)[1], x, d, 0.5, step, steps)
    assert moved.shape == x.shape
    r = to_host(attack.norms(moved - x)).ravel()
    assert r.max() <= 0.5 * (1 + 1e-12)
    assert (to_host(waves(moved)[0]) > to_host(waves(x + d)[0])).all()
    if step >= 0.75:
        assert r.min() > 0.45
        assert (to_host(waves(moved)[0]) > to_host(waves(x)[0])).all()


def test_the_attack_of_a_linear_function_is_known(make, xp):
    """Each picture goes to the ball's edge along its own gradient, whatever the gradients' sizes."""
    x, g, zero = make(3, 4, 5, 3), make(3, 4, 5, 3), 0 * make(3, 4, 5, 3)
    scaled = g * xp.asarray([1e-6, 1.0, 1e6])[:, None, None, None]
    expected = to_host(x + 0.7 * g / attack.norms(g))
    for step, steps in ((0.7, 1), (0.35, 2), (5.0, 1)):
        assert to_host(attack.perturb(lambda _: scaled, x, zero, 0.7, step, steps)) == pytest.approx(
            expected, abs=1e-12
        )
    halfway = to_host(x + 0.35 * g / attack.norms(g))
    assert to_host(attack.perturb(lambda _: scaled, x, zero, 0.7, 0.35)) == pytest.approx(halfway, abs=1e-12)


def test_without_a_gradient_the_attack_stays_where_it_is(make):
    x, direction = make(2, 3, 4, 3), make(2, 3, 4, 3)
    d = 0.2 * direction / attack.norms(direction)
    assert to_host(attack.perturb(lambda x: 0 * x, x, d, 0.5, 0.7, 3)) == pytest.approx(to_host(x + d), rel=1e-14)


# The step.


def test_the_rate_goes_up_and_down_once():
    rates = [one_cycle(step / 1000, 2.0) for step in range(1001)]
    assert (rates[0], rates[200]) == (pytest.approx(2 / 25), 2.0)
    assert rates[1000] == pytest.approx(2e-4)
    assert np.argmax(rates) == 200
    assert (np.diff(rates[:201]) > 0).all()
    assert (np.diff(rates[200:]) < 0).all()
    assert rates[100] == pytest.approx((2 + 2 / 25) / 2)  # halfway up, and halfway down
    assert rates[600] == pytest.approx((2 + 2e-4) / 2)
    assert np.abs(np.diff(rates)).max() < 0.02  # no jump


def test_a_step_is_the_formula_and_only_weights_decay(make):
    names = ("conv1_1/weight", "conv1_1/gamma", "conv1_1/beta", "classes/weight", "classes/bias")
    w, v, g = ({name: make(3, 2) for name in names} for _ in range(3))
    stepped, moved = sgd_step(w, v, g, 0.3, 0.8, 0.1)
    assert list(stepped) == list(moved) == list(names)
    for name in names:
        decayed = to_host(g[name]) + (0.1 * to_host(w[name]) if name.endswith("weight") else 0)
        velocity = 0.8 * to_host(v[name]) + decayed
        assert to_host(moved[name]) == pytest.approx(velocity, rel=1e-14)
        assert to_host(stepped[name]) == pytest.approx(to_host(w[name]) - 0.3 * (decayed + 0.8 * velocity), rel=1e-13)


# The trainer.

RECIPE = Recipe(
    widths=(4, 4, 6, 6, 6),
    last="conv2_1",
    stages=(Stage(1, 8, True), Stage(1.5, 12)),
    batch=8,
    group=4,
    rate=0.1,
    radius=0.5,
    seed=3,
)


def flat_pictures(n, side=20, classes=3, noise=40):
    """Pictures whose class is their brightest channel."""
    rng = np.random.default_rng(5)
    labels = np.arange(n) % classes
    pixels = rng.integers(0, noise, (n, side, side, 3))
    pixels[np.arange(n), :, :, labels % 3] += 150
    return Pictures(pixels.astype(np.uint8), labels, classes)


def trained(recipe=RECIPE, n=34, held_out=10, callback=None, **options):
    result = Trainer(*flat_pictures(n).split(held_out), recipe, **options)
    result.train(callback)
    return result


def arrays(state):
    """Everything that a state holds."""
    return {
        f"{kind}/{name}": to_host(array)
        for kind in ("parameters", "velocities", "statistics")
        for name, array in getattr(state, kind).items()
    }


def assert_same_bits(a, b):
    a, b = arrays(a), arrays(b)
    assert a.keys() == b.keys()
    assert [name for name in a if a[name].tobytes() != b[name].tobytes()] == []


def test_the_number_of_threads_changes_no_bit():
    reports, recipe = [], replace(RECIPE, batch=12)  # three groups: with two, the order of a sum makes no difference
    one = trained(recipe, threads=1, callback=reports.append)
    three = trained(recipe, threads=3, callback=reports.append)
    assert_same_bits(one.state, three.state)
    first, second = reports[: one.steps], reports[one.steps :]
    assert [(r.loss, r.accuracy) for r in first] == [(r.loss, r.accuracy) for r in second]
    for name, arrays_of_layer in one.network().weights.items():
        assert all(map(np.array_equal, arrays_of_layer, three.network().weights[name]))


def test_a_training_goes_on_exactly_where_it_stopped(tmp_path, device):
    """From each step: the first, within an epoch, where the stage changes, the last."""
    whole = Trainer(*flat_pictures(34).split(10), RECIPE, device=device)
    whole.state.save(tmp_path / "0", RECIPE)
    whole.train(lambda report: whole.state.save(tmp_path / str(report.step), RECIPE))
    assert (whole.stage_steps, whole.steps) == ([3, 4], 7)
    assert sorted(path.name for path in tmp_path.iterdir()) == list("01234567")
    for step in range(8):
        again = Trainer(*flat_pictures(34).split(10), RECIPE, device=device, threads=2)
        again.state = load_state(tmp_path / str(step), RECIPE, again.xp)
        assert again.state.step == step
        assert list(again.state.parameters) == list(whole.state.parameters)
        reports = []
        again.train(reports.append)
        assert [report.step for report in reports] == list(range(step + 1, 8))
        assert_same_bits(again.state, whole.state)


def test_a_training_in_parts_is_the_same():
    whole, parts = trained(), Trainer(*flat_pictures(34).split(10), RECIPE)
    for until, step in ((0, 0), (4, 4), (2, 4), (5, 5), (100, 7)):
        parts.train(until=until)
        assert parts.state.step == step
    assert_same_bits(parts.state, whole.state)


@pytest.mark.parametrize("name", [field.name for field in fields(Recipe)])
def test_the_checkpoint_of_another_recipe_is_refused(tmp_path, name):
    parameters = initial_parameters(RECIPE.widths, 3, 0, RECIPE.last)
    State(1, parameters, parameters, {"conv1_1/mean": np.ones(4)}).save(tmp_path / "c", RECIPE)
    values = {"widths": (4, 4, 6, 6, 7), "last": "conv1_2", "stages": (Stage(1, 8, True), Stage(1.5, 13))}
    other = replace(RECIPE, **{name: values.get(name, getattr(RECIPE, name) * 2)})
    with pytest.raises(
        TrainingError, match=rf"c: of a training with {name} .*; give the same options, or begin anew"
    ) as e:
        load_state(tmp_path / "c", other)
    assert "\n" not in str(e.value)
    assert load_state(tmp_path / "c", RECIPE).step == 1


def test_what_is_no_checkpoint_is_told_so(tmp_path):
    (tmp_path / "text").write_text("no checkpoint")
    with h5py.File(tmp_path / "other", "w") as h5:
        h5["data"] = [1]
    for name in ("missing", "text", "other"):
        with pytest.raises(TrainingError, match=rf"{name}: no checkpoint that can be read; begin without --resume"):
            load_state(tmp_path / name, RECIPE)


def test_each_stage_has_its_pictures():
    made = Trainer(*flat_pictures(34).split(10), RECIPE)
    assert [made.stage(step) for step in range(9)] == 3 * [RECIPE.stages[0]] + 6 * [RECIPE.stages[1]]
    for step, side in ((0, 8), (2, 8), (3, 12), (6, 12)):
        x, labels, d = made.batch(step)
        assert x.shape == d.shape == (8, side, side, 3)
        assert (x.dtype, d.dtype, labels.shape) == (np.float32, np.float32, (8,))
        r = attack.norms(d).ravel()
        assert r.max() <= RECIPE.radius * side / 64 * (1 + 1e-6)  # the same per pixel
        assert r.min() > 0.9 * RECIPE.radius * side / 64
        brightest = (x + made.mean).mean(axis=(1, 2)).argmax(axis=1)
        assert np.array_equal(brightest, labels)


def test_the_mean_colour_is_subtracted_and_halved_pictures_are_halved():
    pixels = np.zeros((8, 20, 20, 3), np.uint8)
    pixels[:, ::2, :, 0], pixels[..., 2] = 255, 51
    made = Trainer(Pictures(pixels, np.arange(8) % 2, 2), Pictures(pixels[:0], np.arange(0), 2), RECIPE)
    assert made.mean == pytest.approx([0.5, 0, 0.2])
    x = made.batch(0)[0]
    assert x == pytest.approx(np.broadcast_to([128 / 255 - 0.5, 0, 0], x.shape), abs=1e-6)
    assert set(np.unique(made.batch(1)[0][..., 0].round(3))) == {-0.5, 0.5}


def test_each_epoch_shows_each_picture_once_in_a_new_order():
    n = 24
    pixels = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None] * 10, (n, 20, 20, 3))
    labels = np.arange(n) % 7
    recipe = replace(RECIPE, stages=(Stage(2, 12),))
    made, other = (
        Trainer(Pictures(pixels, labels, 7), Pictures(pixels[:0], labels[:0], 7), replace(recipe, seed=seed))
        for seed in (3, 4)
    )

    def shown(trainer, step):
        x, classes, _ = trainer.batch(step)
        numbers = np.rint((x[:, 0, 0, 0] + trainer.mean[0]) * 25.5).astype(int)
        assert np.array_equal(classes, labels[numbers])
        return numbers.tolist()

    first, second = ([number for step in epoch for number in shown(made, step)] for epoch in ((0, 1, 2), (3, 4, 5)))
    assert sorted(first) == sorted(second) == list(range(n))
    assert set(first[:8]) != set(second[:8])
    assert [shown(made, step) for step in (2, 0)] == [first[16:], first[:8]]  # of the step alone
    assert shown(other, 0) != first[:8]
    starts = [made.batch(step)[2].tobytes() for step in range(6)]
    assert len(set(starts)) == 6  # nor does an attack ever begin at the same place


def test_the_gradient_of_a_step_is_the_mean_over_the_groups():
    """Each of which is attacked and normalised by itself."""
    made = Trainer(*flat_pictures(34).split(10), RECIPE, threads=2)
    x, labels, d = made.batch(4)
    loss, gradients, statistics = made.gradients(4)
    own, radius = Classifier(made.state.parameters), RECIPE.radius * 12 / 64
    parts = []
    for group in (slice(0, 4), slice(4, 8)):
        g = own.loss(x[group] + d[group], labels[group], of_input=True)[1]
        moved = d[group] + 1.5 * radius * g / attack.norms(g)
        moved = moved * np.minimum(1, radius / attack.norms(moved))
        parts.append(own.loss(x[group] + moved, labels[group]))
    assert loss == pytest.approx((parts[0][0] + parts[1][0]) / 2, rel=1e-6)
    for got, index in ((gradients, 1), (statistics, 2)):
        assert got.keys() == parts[0][index].keys()
        for name in got:
            expected = (parts[0][index][name] + parts[1][index][name]) / 2
            assert np.abs(got[name] - expected).max() < 1e-4 * np.abs(expected).max() + 1e-7, name


def test_the_attack_misleads_and_more_steps_do_so_more():
    losses = [
        Trainer(*flat_pictures(34).split(10), replace(RECIPE, radius=radius, steps=steps, step=step)).gradients(4)[0]
        for radius, steps, step in ((0, 1, 1), (4, 1, 1), (4, 6, 0.4))
    ]
    assert losses[0] < losses[1] < losses[2]


def test_without_a_radius_each_picture_is_evaluated_once(monkeypatch):
    calls = []
    right = Classifier.loss

    def loss(self, x, labels, workers=None, *, of_input=False):
        calls.append((len(x), of_input))
        return right(self, x, labels, workers, of_input=of_input)

    monkeypatch.setattr(Classifier, "loss", loss)
    Trainer(*flat_pictures(34).split(10), replace(RECIPE, radius=0.0), threads=1).gradients(0)
    assert calls == [(4, False)] * 2
    calls.clear()
    Trainer(*flat_pictures(34).split(10), replace(RECIPE, steps=3), threads=1).gradients(0)
    assert calls == [*[(4, True)] * 3, (4, False)] * 2


def test_it_learns_what_is_easy(device):
    widths, stages = (8, 8, 12, 12, 12), (Stage(4, 8, True), Stage(4, 12))
    recipe = replace(RECIPE, widths=widths, stages=stages, batch=12, rate=0.2, radius=0.3)
    reports = []
    done = trained(recipe, n=72, held_out=24, device=device, callback=reports.append)
    losses = [report.loss for report in reports]
    assert losses[0] > 0.8
    assert np.mean(losses[-4:]) < 0.4 * losses[0]
    assert reports[-1].accuracy == done.accuracy() == 1
    initial = Trainer(*flat_pictures(72).split(24), recipe)
    initial.state.statistics = initial.gradients(0)[2]
    initial.state.step = 1
    assert initial.accuracy() < 0.9


def test_the_reports():
    reports = []
    trained(callback=reports.append)
    assert [report.step for report in reports] == [1, 2, 3, 4, 5, 6, 7]
    assert {report.steps for report in reports} == {7}
    assert [report.epoch for report in reports] == pytest.approx([k / 3 for k in range(1, 8)])
    assert [report.rate for report in reports] == [one_cycle(k / 7, 0.1) for k in range(7)]
    assert [report.accuracy is None for report in reports] == [True, True, False, True, True, False, False]
    assert all(report.images_per_second > 0 for report in reports)
    assert reports[0].record().keys() == {field.name for field in fields(reports[0])}
    reports.clear()
    trained(held_out=0, callback=reports.append)
    assert {report.accuracy for report in reports} == {None}


def test_accuracy_is_the_share_of_the_held_out_pictures_that_are_right():
    """With running statistics, the last stage's middles, a last group that is not full."""
    done = trained(replace(RECIPE, stages=(Stage(1, 12),), rate=0.01), n=40, held_out=14)
    pixels, labels = done.held_out.pixels, done.held_out.labels
    x = (pixels[:, 4:16, 4:16] / np.float32(255) - done.mean).astype(np.float32)
    scores = Classifier(done.state.parameters).scores(x, done.state.statistics)
    right = (scores.argmax(axis=1) == labels).mean()
    assert done.accuracy() == pytest.approx(right)
    guess = np.bincount(scores.argmax(axis=1), minlength=3).argmax()
    done.held_out = Pictures(pixels, np.full(14, guess), 3)
    assert done.accuracy() == pytest.approx((scores.argmax(axis=1) == guess).mean())


def test_accuracy_is_measured_on_the_pictures_of_the_stage(monkeypatch):
    """Of the stage that just ended, at its end."""
    made = Trainer(*flat_pictures(34).split(10), RECIPE)
    seen = []

    def scores(self, x, statistics, workers):
        assert statistics is made.state.statistics
        seen.append(x)
        return np.zeros((len(x), 3))

    monkeypatch.setattr(Classifier, "scores", scores)
    whole = made.held_out.pixels
    for step, pixels, crop in ((3, halved(whole), 8), (4, whole, 12), (7, whole, 12)):
        made.state.step = step
        seen.clear()
        assert made.accuracy() == 0.4  # of all scores that are the same, the first one wins
        assert sorted(len(x) for x in seen) == [2, 4, 4]
        expected = (middle_crops(pixels, crop) - made.mean).astype(np.float32)
        by_picture = {x.tobytes() for group in seen for x in np.rint(255 * group)}
        assert by_picture == {x.tobytes() for x in np.rint(255 * expected)}


def test_running_statistics_follow_slowly():
    seen = []
    made = Trainer(*flat_pictures(34).split(10), RECIPE)
    right = made.gradients

    def gradients(step):
        result = right(step)
        seen.append(result[2])
        return result

    made.gradients = gradients
    made.train()
    for name, got in made.state.statistics.items():
        expected = seen[0][name]
        for statistics in seen[1:]:
            expected = 0.9 * expected + 0.1 * statistics[name]
        assert got == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value", "ignore:divide by zero")
def test_a_loss_that_is_not_finite_ends_the_training():
    made = Trainer(*flat_pictures(34).split(10), replace(RECIPE, rate=1e30, stages=(Stage(20, 12),)))
    with pytest.raises(TrainingError, match=r"step \d+: the loss is (nan|inf): choose a rate below 1e\+30"):
        made.train()
    assert 0 < made.state.step < made.steps


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"group": 3}, "batch 8 is not a multiple of group 3"),
        ({"batch": 40, "group": 40}, "34 pictures are fewer than a batch of 40"),
        ({"stages": (Stage(1, 11, True),)}, "crop 11: 2 to 10 expected"),
        ({"stages": (Stage(1, 12), Stage(1, 21))}, "crop 21: 2 to 20 expected"),
        ({"stages": (Stage(1, 15),), "last": "conv5_1"}, "crop 15: 16 to 20 expected, with conv5_1"),
    ],
)
def test_a_recipe_that_does_not_fit_to_the_pictures(change, words):
    with pytest.raises(ValueError, match=words):
        check_recipe(replace(RECIPE, **change), flat_pictures(34))
    with pytest.raises(ValueError, match=words):
        Trainer(*flat_pictures(34).split(0), replace(RECIPE, **change))


def test_the_finished_network(tmp_path):
    """Folded, and each mean activation 1 over the calibration pictures."""
    done = trained()
    for k in range(4):
        Image.fromarray(np.random.default_rng(k).integers(0, 255, (18, 23, 3)).astype(np.uint8)).save(
            tmp_path / f"{k}.png"
        )
    file = finish(done, tmp_path, "the data")
    assert file.normalized
    assert list(file.weights) == ["conv1_1", "conv1_2", "conv2_1"]
    assert file.preprocessing.mean == pytest.approx(done.mean)
    images = [np.asarray(Image.open(tmp_path / f"{k}.png")) / 255 for k in range(4)]
    before = mean_activations(done.network(), images)
    means = mean_activations(file, images)
    assert list(means) == list(file.weights)
    for name in means:
        alive = before[name] > 1e-3 * before[name].max()
        assert alive.any()
        assert means[name][alive] == pytest.approx(1, abs=1e-3)
    for words in ("on the data, 1@8/2,1.5@12, against perturbations of radius 0.5", f"normalized over {tmp_path.name}",
                  f"top-1 accuracy {done.accuracy():.1%}", '"seed": 3'):  # fmt: skip
        assert words in file.source
    plain = finish(trained(replace(RECIPE, radius=0.0), held_out=0), tmp_path, "the data").source
    assert "without perturbations; normalized" in plain
    as_trained = finish(done, None, "the data")
    assert not as_trained.normalized
    assert "; not normalized; " in as_trained.source
    assert mean_activations(as_trained, images).keys() == before.keys()
    assert all(np.array_equal(mean_activations(as_trained, images)[name], before[name]) for name in before)


def test_folding_what_was_trained_gives_the_scores_of_the_training():
    done = trained()
    file = done.network()
    assert {array.dtype for pair in file.weights.values() for array in pair} == {np.dtype(np.float32)}
    x = done.held_out.pixels / np.float32(255)
    own = Classifier(done.state.parameters)
    expected = own.scores((x - done.mean).astype(np.float32), done.state.statistics)
    vgg = VGG(file.weights, xp=np, preprocessing=file.preprocessing)
    F = vgg.forward(x, ["conv2_1"])[0]["conv2_1"]
    scores = F.mean(axis=(1, 2)) @ done.state.parameters["classes/weight"] + done.state.parameters["classes/bias"]
    assert np.abs(scores - expected).max() < 1e-5 * np.abs(expected).max()


def test_the_trainer_s_defaults_are_a_recipe_that_can_be_followed():
    side = np.zeros((128, 64, 64, 3), np.uint8)
    check_recipe(Recipe(), Pictures(side, np.arange(128) % 2, 2))
    assert trainer.Recipe is Recipe
