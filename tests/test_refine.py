"""Refinement by gradients: proved by central differences, resumed to the same bits; and the command that does it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_compress import crops, filters, photographs, teacher  # noqa: F401

from nsnumpy import Preprocessing, load_vgg, read_weights, write_weights
from nsnumpy.architecture import network_digest
from nsnumpy.backend import to_host
from weights_tools.cli import main
from weights_tools.compress import Crops, Recipe, Refiner, closed_form, compress, judged_errors, refine
from weights_tools.compress import cli as compress_cli
from weights_tools.states import TrainingError

RECIPE = Recipe(steps=8, batch=2, crop=32, positions=300, runs=1, renewed=5)


@pytest.fixture(autouse=True)
def few_iterations(monkeypatch):
    """Of what the network paints on the way."""
    monkeypatch.setattr(refine, "_SHORT", 3)
    monkeypatch.setattr(refine, "_LONG", 7)


@pytest.fixture(scope="module")
def narrow(teacher, crops):  # noqa: F811
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closed_form, "POSITIONS", 2400)
        return compress(teacher, crops, filters(4, 4, 5, 5, 6))[0]


@pytest.fixture
def refiner(narrow, teacher, crops):  # noqa: F811
    """refiner(...) is one at its beginning, with some of the recipe's numbers changed."""

    def refiner(recipe=RECIPE, **options):
        return Refiner(narrow, teacher, crops, 21, recipe, **options)

    return refiner


def arrays(made):
    return {name: to_host(a) for group in ("parameters", "means", "squares", "moments", "maps", "own")
            for name, a in getattr(made, group).items()}  # fmt: skip


def test_the_gradient_of_every_weight_is_that_of_the_losses(refiner):
    """At given maps B, in float64: along random directions, by central differences."""
    r = refiner(dtype="float64")
    x = r.batch({})
    _, _, moments, r.maps = r.gradients(x)
    r.moments = {name: 0 * array for name, array in moments.items()}
    r.step = 1  # no new maps
    parameters = r.parameters

    def total(step, direction):
        r.parameters = {name: a + step * direction[name] for name, a in parameters.items()}
        return sum(r.gradients(x)[0].values())

    r.parameters = parameters
    _, gradients, _, _ = r.gradients(x)
    for name in parameters:
        direction = {other: np.zeros_like(a) for other, a in parameters.items()}
        direction[name] = np.random.default_rng(5).standard_normal(direction[name].shape) * np.abs(parameters[name])
        slope = (total(1e-7, direction) - total(-1e-7, direction)) / 2e-7  # a longer step meets kinks
        assert (gradients[name] * direction[name]).sum() == pytest.approx(slope, rel=1e-5), name


@pytest.mark.slow
def test_it_lowers_the_losses_and_keeps_the_networks_scale(refiner, narrow):
    recipe = replace(RECIPE, steps=150, runs=0, rate=2e-3)
    r, reports = refiner(recipe), []
    before = r.network()
    for name, (weight, bias) in narrow.weights.items():
        assert before.weights[name][0] == pytest.approx(weight, rel=1e-4, abs=1e-6)
        assert before.weights[name][1] == pytest.approx(bias, rel=1e-4, abs=1e-4)
    r.train(reports.append)
    totals = [sum(report.losses.values()) for report in reports]
    assert np.mean(totals[-20:]) < 0.8 * np.mean(totals[20:40])
    assert [report.step for report in reports] == list(range(1, 151))
    assert reports[0].rate == 0 < reports[60].rate
    assert reports[-1].rate < 1e-3 * recipe.rate
    after = r.network()
    assert (after.preprocessing, list(after.weights)) == (narrow.preprocessing, list(narrow.weights))
    assert network_digest(after.weights, after.preprocessing) != network_digest(narrow.weights, narrow.preprocessing)


def test_the_network_paints_a_third_of_its_pictures(refiner):
    r = refiner(replace(RECIPE, batch=6))
    own = r._own_pictures()["pictures"]
    assert own.shape == (6, 64, 64, 3)
    assert len({picture.tobytes() for picture in own}) == 6
    marked = r.batch({"pictures": np.full((1, 64, 64, 3), 255, np.uint8)})
    assert [bool((x == 1).all()) for x in marked] == [False, False, True] * 2
    assert np.array_equal(r.batch({}), r.batch({}))


@pytest.mark.slow
@pytest.mark.parametrize("stop", [3, 5])
def test_a_resumed_refinement_has_the_same_bits(refiner, photographs, tmp_path, stop):  # noqa: F811
    whole = refiner()
    whole.train()
    first = refiner()

    def halt(report):
        if report.step == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.train(halt)
    first.save(tmp_path / "c")
    again = refiner()
    again.load(tmp_path / "c")
    assert again.step == stop
    again.train()
    one, other = arrays(whole), arrays(again)
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert [p.name for p in tmp_path.iterdir()] == ["c"]
    with pytest.raises(TrainingError, match="of a training with steps 8; give the same"):
        refiner(replace(RECIPE, steps=9)).load(tmp_path / "c")
    again.crops = Crops([photographs], 24, 64, seed=5)
    with pytest.raises(TrainingError, match="with other pictures"):
        again.load(tmp_path / "c")


def test_on_a_device_a_step_is_the_same_to_rounding(refiner, xp):
    recipe = replace(RECIPE, steps=2, runs=0)
    host, device = refiner(recipe), refiner(recipe, xp=xp)
    x = host.batch({})
    one, other = host.gradients(x), device.gradients(device.batch({}))
    assert other[0] == pytest.approx(one[0], rel=1e-3)
    for name, gradient in one[1].items():
        assert to_host(other[1][name]) == pytest.approx(gradient, rel=0.05, abs=0.02 * float(np.abs(gradient).max()))
    device.train()
    assert all(isinstance(a, np.ndarray) for both in device.network().weights.values() for a in both)


def test_a_rate_that_is_too_high_is_told(refiner, monkeypatch):
    monkeypatch.setattr(refine, "_WAIT", 0)
    monkeypatch.setattr(refine, "_WARMUP", 1)
    with pytest.raises(TrainingError, match=r"step \d+: a loss is not finite: choose a rate below 1e\+30"):
        refiner(replace(RECIPE, runs=0, rate=1e30)).train()
    with pytest.raises(ValueError, match="pictures of 16 to 64 pixels, the crops' side, expected; 65 asked for"):
        refiner(replace(RECIPE, crop=65))


@pytest.mark.slow
def test_judged_errors_are_least_for_the_judge_itself(teacher, crops, narrow):  # noqa: F811
    judge = refine.vgg_of(teacher, np)
    poor = refine.vgg_of(replace(narrow, weights={n: (0.2 * w, b) for n, (w, b) in narrow.weights.items()}), np)
    own, other = (judged_errors(network, judge, crops, 18) for network in (judge, poor))
    assert 0 < own[0] < other[0]
    with pytest.raises(ValueError, match="24 crops: none are left to judge by; take more of them"):
        judged_errors(judge, judge, crops, 23)


def test_a_network_in_rgb_is_the_same_network(teacher, crops):  # noqa: F811
    x = crops.batch(0, 1).astype("float64")
    theirs, ours = (
        refine.vgg_of(file, np, dtype="float64").forward(x, ["conv3_1"])[0]["conv3_1"]
        for file in (teacher, compress_cli.in_rgb(teacher))
    )
    assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-9)
    once = compress_cli.in_rgb(teacher)
    assert compress_cli.in_rgb(once) is once


# The command


OPTIONS = "--width 1/2 --last conv3_1 --crops 32 --side 64"


@pytest.fixture
def run(teacher, photographs, tmp_path, monkeypatch, capsys):  # noqa: F811
    """run("options") gives the exit status, stdout and stderr of a compression in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(closed_form, "POSITIONS", 2400)
    monkeypatch.setattr("nsnumpy.run.settings.ONE_SCALE", 10)  # iterations of each picture that is judged
    write_weights("teacher.h5", teacher)

    def run(more="", output="o.h5"):
        try:
            status = main(["compress", "teacher.h5", str(photographs), "-o", output, *OPTIONS.split(), *more.split()])
        except SystemExit as exit:  # argparse's way
            status = exit.code
        return status, *capsys.readouterr()

    return run


def names():
    return sorted(path.name for path in Path().iterdir())


def test_from_a_teacher_and_photographs_to_a_network(run):
    status, out, err = run()
    assert (status, err) == (0, "")
    assert names() == ["o.h5", "teacher.h5"]
    file = read_weights("o.h5")
    lines = out.splitlines()
    assert [line.split()[:4] for line in lines[1:6]] == [
        ["conv1_1", "4", "of", "8"], ["conv1_2", "4", "of", "8"], ["conv2_1", "5", "of", "10"],
        ["conv2_2", "5", "of", "10"], ["conv3_1", "6", "of", "12"],
    ]  # fmt: skip
    assert lines[-1] == f"o.h5: {file.source}"
    assert file.source.startswith("compressed by nsnumpy 0.1.0 from a teacher (network ")
    assert "filters conv1: 4, conv2: 5, conv3: 6; 32 crops of 64 pixels of photographs" in file.source
    assert load_vgg("o.h5").filters["conv3_1"] == 6
    assert file.preprocessing == Preprocessing("RGB", 255.0, (124.0, 117.0, 104.0))  # the teacher's was BGR
    first = Path("o.h5").read_bytes()
    assert run(output="again.h5")[0] == 0
    assert Path("again.h5").read_bytes() == first
    assert run("--seed 1 --width 1/2,1/2,3/5,1,1", output="other.h5")[0] == 0
    assert read_weights("other.h5").weights["conv3_1"][0].shape == (3, 3, 5, 7)


@pytest.mark.slow
def test_refined_interrupted_and_resumed_to_the_same_bits(run, monkeypatch):
    monkeypatch.setattr(compress_cli, "Recipe", lambda **given: replace(RECIPE, **{**given, "crop": 32}))
    options = "--refine 7 --rate 1e-3 --seed 3"
    status, out, err = run(f"{options} --log run.jsonl")
    assert (status, err) == (0, "")
    assert names() == ["o.h5", "run.jsonl", "teacher.h5"]
    assert [json.loads(line)["step"] for line in Path("run.jsonl").read_text().splitlines()] == list(range(1, 8))
    assert "; seed 3; 7 steps at 0.001, refine" in out
    whole = Path("o.h5").read_bytes()

    right = Refiner.gradients

    def stopped(self, x):
        if self.step == 4:
            raise KeyboardInterrupt
        return right(self, x)

    monkeypatch.setattr(Refiner, "gradients", stopped)
    status, _, err = run(options, "again.h5")
    assert status == 130
    assert err == ("weights_tools: interrupted after 4 of 7 steps; --resume goes on from again.h5.checkpoint\n")
    assert "again.h5" not in names()
    monkeypatch.setattr(Refiner, "gradients", right)
    status, _, err = run(options, "again.h5")
    assert (status, "of a refinement that was not finished: --resume goes on; or remove it" in err) == (1, True)
    status, _, err = run(f"{options} --width 1", "again.h5")
    assert status == 1
    for wrong in ("--width 1/4 --resume", "--rate 2e-3 --resume", "--crops 33 --resume", "--last conv2_2 --resume"):
        status, _, err = run(f"{options} {wrong}", "again.h5")
        assert (status, err.count("\n"), err.startswith("weights_tools: error: ")) == (1, 1, True), wrong
    assert run(f"{options} --resume", "again.h5")[0] == 0
    assert Path("again.h5").read_bytes() == whole
    assert names() == ["again.h5", "o.h5", "run.jsonl", "teacher.h5"]
    status, _, err = run(f"{options} --resume", "again.h5")
    assert (status, "not there to go on from; begin without --resume" in err) == (1, True)


@pytest.mark.slow
@pytest.mark.parametrize("better", [True, False])
def test_a_refinement_that_does_not_help_is_dropped(run, monkeypatch, better):
    monkeypatch.setattr(compress_cli, "Recipe", lambda **given: replace(RECIPE, **{**given, "crop": 32}))
    errors = iter([(0.5, 1.0), (0.4 if better else 0.6, 1.1)])
    monkeypatch.setattr(compress_cli, "judged_errors", lambda *_: next(errors))
    _, out, _ = run("--refine 3 --dtype float32")
    now = "0.4000" if better else "0.6000"
    how = "refined" if better else "refinement dropped"
    assert f"3 steps at 0.0004, {how}: style error 0.5000 to {now}, content error 1.000 to 1.100" in out
    assert run("--dtype float32", "plain.h5")[0] == 0
    one, other = (network_digest(file.weights, file.preprocessing) for file in map(read_weights, ("o.h5", "plain.h5")))
    assert (one == other) != better


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--width 0", "a share as 3/8 or 0.5, 1 at most, expected; '0' given"),
        ("--width 3/2", "a share as 3/8 or 0.5, 1 at most, expected; '3/2' given"),
        ("--width 1/2,1/2", "one share, or one for each of 5 blocks, expected; '1/2,1/2' given"),
        ("--last conv4_2", "the teacher ends at conv3_1, before conv3_2: choose a --last up to there"),
        ("--last pool2", "--last pool2: not a convolution of vgg19: choose from conv1_1"),
        ("--side 32", "64 pixels or more expected; '32' given"),
        ("--crops 0", "a whole number, 1 or more, expected; '0' given"),
        ("--log teacher.h5", "teacher.h5: named twice in this command"),
        ("--log missing/run.jsonl", "the folder missing does not exist"),
        ("--rate 0", "a number above 0 expected"),
        ("--crops 31", "32 or more expected; '31' given"),
    ],
)
def test_what_cannot_be_done_is_one_line(run, options, message):
    status, _, err = run(options)
    assert status in (1, 2)
    assert message in err
    assert err.startswith("weights_tools: error: ")
    assert err.count("\n") == 1
    assert "o.h5" not in names()


def test_no_pictures_and_a_damaged_one(run, tmp_path, photographs, teacher, monkeypatch, capsys):  # noqa: F811
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "x.png").write_bytes(sorted(photographs.iterdir())[0].read_bytes()[:300])
    for folder, message in (("empty", "no pictures in it"), ("damaged", "x.png cannot be read"), ("none", "no such")):
        assert main(["compress", "teacher.h5", folder, "-o", "o.h5", *OPTIONS.split()]) == 1
        assert message in capsys.readouterr().err
