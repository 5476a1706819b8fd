"""Runs that go back to an earlier picture of theirs."""

import numpy as np
import pytest

from nsnumpy.run.steered import SteeredRun

PICTURES = {"content": "sample:coast", "style": "sample:starry"}


@pytest.fixture
def make_run(tiny_vgg):
    """A function that makes a run at 32 and 64 pixels."""
    options = {"vgg": tiny_vgg(dtype="float32"), "size": 64, "scales": [32, 64], "iterations": [4, 4]}
    return lambda **more: SteeredRun("transfer", PICTURES, **options, **more)


def begun(run, until):
    """The run, left after so many iterations, and its iterates."""
    kept = {}
    steps = run.steps()
    for step in steps:
        kept[step.iteration, max(step.x.shape)] = SteeredRun.iterate(step)
        if step.iteration == until:
            break
    steps.close()
    return run, kept


def rest(run):
    return [(step.iteration, max(step.x.shape)) for step in run.steps()]


def numbers(run):
    return [(line["iteration"], line["size"]) for line in run.history]


def test_it_goes_on_from_there_as_if_nothing_had_come_after(make_run):
    run, kept = begun(make_run(), 3)
    run.go_back(kept[1, 32], 1)
    assert rest(run) == [(1, 32), (2, 32), (3, 32), (4, 32), *[(n, 64) for n in range(4, 9)]]
    assert numbers(run) == [*[(n, 32) for n in range(5)], *[(n, 64) for n in range(4, 9)]]
    assert run.result().settings["changes"] == [{"iteration": 3, "back_to": 1}]
    assert not run.result().stopped


def test_it_goes_back_to_a_scale_that_was_done(make_run):
    run, kept = begun(make_run(), 7)
    run.go_back(kept[2, 32], 2)
    assert np.array_equal(SteeredRun.iterate(next(run.steps())), kept[2, 32])
    assert numbers(run) == [(0, 32), (1, 32), (2, 32)]
    assert rest(run) == [(3, 32), (4, 32), *[(n, 64) for n in range(4, 9)]]


def test_the_loss_there_is_what_it_was_and_a_start_is_one_too(make_run):
    run, kept = begun(make_run(), 6)
    before = [line["loss"] for line in run.history if line["iteration"] == 4 and line["size"] == 64]
    run.go_back(kept[4, 64], 4)
    assert next(run.steps()).loss == pytest.approx(before[0], rel=1e-6)
    run.go_back(kept[0, 32], 0)
    assert rest(run)[0] == (0, 32)


def test_where_it_has_not_been_it_does_not_go(make_run):
    run, kept = begun(make_run(), 2)
    with pytest.raises(ValueError, match="iteration 3: the run had no picture there"):
        run.go_back(kept[2, 32], 3)
    with pytest.raises(ValueError, match="no picture there"):
        run.go_back(np.zeros((48, 64, 3), np.float32), 2)
    assert run.changes == []


def test_it_goes_on_with_other_colours_and_a_checkpoint_knows_of_that(make_run, tmp_path):
    path = tmp_path / "run.h5"
    run, _ = begun(make_run(checkpoint=path, checkpoint_every=1), 6)
    for colors, shape in (("luminance", (48, 64, 1)), ("photo", (48, 64, 3))):
        shown = run.inputs.finished(run.inputs.enlarged(run.result().image, (48, 64)))
        run.recolor(colors, shown, run.history[-1]["iteration"])
        step = next(run.steps())
        assert (step.iteration, max(step.x.shape)) == (6, 64)
        assert np.abs(step.image - shown).max() < (1e-6 if colors == "photo" else 0.6)
        assert run._descent.best.shape[:2] == shape[:2]
        assert run._descent.best[0, 0].size == shape[2]
    assert run.changes == [{"iteration": 6, "colors": "luminance"}, {"iteration": 6, "colors": "photo"}]
    resumed = make_run(resume=path)
    assert resumed.inputs.colors == resumed.s.colors == "photo"
    assert rest(resumed) == rest(run) == [(7, 64), (8, 64)]
    assert np.array_equal(resumed.result().image, run.result().image)
    with pytest.raises(ValueError, match="unknown colors 'none'"):
        run.recolor("none", run.result().image, 8)


def test_a_checkpoint_knows_of_it(make_run, tmp_path):
    path = tmp_path / "run.h5"
    run, kept = begun(make_run(checkpoint=path, checkpoint_every=1), 3)
    run.go_back(kept[1, 32], 1)
    steps = run.steps()
    for step in steps:
        if step.iteration == 2:
            break
    steps.close()
    resumed = make_run(resume=path)
    assert resumed.changes == [{"iteration": 3, "back_to": 1}]
    assert rest(resumed) == rest(run)
    assert np.array_equal(resumed.result().image, run.result().image)
