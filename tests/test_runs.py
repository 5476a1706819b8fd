"""A run's steps, driven by whoever wants them; its pictures, read once."""

import contextlib
import io
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import nsnumpy as ns
from nsnumpy import Objective, Run, transfer
from nsnumpy.cli.main import main
from nsnumpy.files.images import Source, decoding
from nsnumpy.optimize import OPTIMIZERS
from nsnumpy.run.inputs import Inputs
from nsnumpy.run.settings import settings_of
from nsnumpy.variable import VARIABLES, through

SMALL = {"size": 40, "scales": (24,), "iterations": (4, 5)}


@pytest.fixture
def pictures(picture):
    return {"content": picture(36, 48).astype("float32"), "style": picture(40, 30, 1).astype("float32")}


def steps_of(run, count=10**6):
    with contextlib.closing(run.steps()) as steps:
        return [step for _, step in zip(range(count), steps, strict=False)]


def losses(history):
    return [line["loss"] for line in history]


def test_a_result_shows_its_picture_in_a_notebook(tiny_vgg, pictures):
    result = transfer(**pictures, vgg=tiny_vgg(), **SMALL)
    shown = Image.open(io.BytesIO(result._repr_png_()))
    assert np.array_equal(np.asarray(shown), np.rint(result.image * 255))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_steps_are_the_run(tiny_vgg, pictures, optimizer):
    whole = transfer(**pictures, vgg=tiny_vgg(), optimizer=optimizer, **SMALL)
    run = Run("transfer", pictures, vgg=tiny_vgg(), optimizer=optimizer, **SMALL)
    steps = steps_of(run)
    assert [step.record()["loss"] for step in steps] == losses(whole.history)
    assert np.array_equal(run.result().image, whole.image)
    assert run.result().stopped == ""


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_step_carries_its_own_evaluation(tiny_vgg, pictures, optimizer):
    """Whatever the objective was asked since: a line search may have tried other points."""
    vgg = tiny_vgg()
    options = {"size": None, "scales": (), "iterations": 12, "optimizer": optimizer, "convention": "paper"}
    s = settings_of("transfer", **options).completed("transfer")
    run = Run("transfer", pictures, vgg=vgg, **options)
    objective = Objective(
        vgg,
        **pictures,
        alpha=s.alpha,
        beta=s.beta,
        tv=s.tv,
        content_layers=s.content_layers,
        style_layers=s.style_layers,
    )
    for step in steps_of(run):
        found = objective.evaluate(step.x)
        assert step.loss == pytest.approx(found.loss, rel=1e-12)
        assert step.terms == pytest.approx(found.terms, rel=1e-12)
        assert step.gradient_norms == pytest.approx(found.gradient_norms, rel=1e-9)
        assert sum(step.terms.values()) == pytest.approx(step.loss, rel=1e-12)


def test_a_run_that_is_left_has_its_best_picture(tiny_vgg, pictures):
    run = Run("transfer", pictures, vgg=tiny_vgg(), **SMALL)
    with pytest.raises(RuntimeError, match="no step has been made"):
        run.result()
    seen = steps_of(run, 3)
    assert [step.iteration for step in seen] == [0, 1, 2]
    result = run.result()
    assert result.image.shape == (30, 40, 3)  # though it stands at the coarse scale
    assert result.settings["loss"] == min(losses(result.history))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_new_weights_hold_from_the_next_step_on(tiny_vgg, pictures, optimizer):
    vgg, options = tiny_vgg(), {"size": None, "scales": (), "iterations": 6, "optimizer": optimizer}
    run = Run("transfer", pictures, vgg=vgg, **options)
    seen = []
    with contextlib.closing(run.steps()) as steps:
        for step in steps:
            seen.append(step)
            if len(seen) == 4:
                run.change(beta=2000.0, tv=0.0)
    again = seen[4]
    assert [step.iteration for step in seen] == [0, 1, 2, 3, 3, 4, 5, 6]
    assert np.array_equal(again.x, seen[3].x)
    before, after = (sum(v for name, v in step.terms.items() if name[:5] == "style") for step in (seen[3], again))
    assert after == pytest.approx(100 * before, rel=1e-9)  # beta was 20
    assert "tv" in seen[3].terms
    assert "tv" not in again.terms
    assert run.result().settings["changes"] == [{"iteration": 3, "beta": 2000.0, "tv": 0.0}]
    assert run.result().settings["loss"] == min(step.loss for step in seen[4:])
    if optimizer in ("lbfgs-device", "scipy"):  # whose pairs are dropped: as if it had begun there
        anew = Run("transfer", pictures, vgg=vgg, **options | {"iterations": 3}, init=again.x, beta=2000.0, tv=0.0)
        expected = losses(anew.go().history)
        # The picture to start from goes through float32, as pictures do.
        assert [step.loss for step in seen[4:]] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("beta", [2000.0, 0.001])
def test_new_weights_before_the_first_step_of_a_run_that_goes_on(tiny_vgg, pictures, tmp_path, beta):
    options = {"vgg": tiny_vgg(), "size": 40, "scales": ()}
    style = {"style": pictures["style"]}
    Run("texture", style, checkpoint=tmp_path / "run.h5", iterations=4, **options).go()
    run = Run("texture", style, resume=tmp_path / "run.h5", iterations=8, **options)
    run.change(beta=beta)
    result = run.go()
    assert [line["iteration"] for line in result.history] == [0, 1, 2, 3, 4, 4, 5, 6, 7, 8]
    before, after = result.history[4]["terms"], result.history[5]["terms"]
    assert after["style/conv1_1"] == pytest.approx(beta / 20 * before["style/conv1_1"], rel=1e-6)
    assert losses(result.history)[9] < losses(result.history)[5]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("count", [1, 7])
def test_a_run_that_is_left_can_be_gone_on_with(tiny_vgg, pictures, optimizer, count):
    options = {"vgg": tiny_vgg(), "optimizer": optimizer, **SMALL}
    whole = transfer(**pictures, **options)
    run = Run("transfer", pictures, **options)
    assert len(steps_of(run, count)) == count
    left = run.result()
    assert left.ending.how == "left"
    assert left.stopped.startswith("left after ")
    result = run.go()
    assert [line["iteration"] for line in result.history] == [line["iteration"] for line in whole.history]
    assert len(left.history) == count  # it is not written to
    assert result.stopped == ""
    if optimizer != "scipy":  # whose memory is fresh
        assert losses(result.history) == losses(whole.history)
        assert np.array_equal(result.image, whole.image)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), FloatingPointError("not finite"), MemoryError()])
@pytest.mark.parametrize("where", ["callback", "driver"])
def test_an_error_is_the_ending_whoever_drives(tiny_vgg, pictures, monkeypatch, error, where):
    run = Run("transfer", pictures, vgg=tiny_vgg(), optimizer="sgd", **SMALL)
    calls = iter(range(100))

    def fail(*_):
        if next(calls) == 2:
            raise error

    if where == "callback":
        result = run.go(fail)
    else:
        right = Objective.evaluate
        monkeypatch.setattr(Objective, "evaluate", lambda self, x: (fail(), right(self, x))[1])
        with pytest.raises(type(error)):
            list(run.steps())
        result = run.result()
    assert (result.interrupted, result.out_of_memory) == (
        isinstance(error, KeyboardInterrupt),
        isinstance(error, MemoryError),
    )
    assert result.failed == (not result.interrupted)
    assert "of 4 iterations" in result.stopped
    monkeypatch.undo()
    assert run.go().stopped == ""  # the rest of it


def test_a_device_that_fails_says_so_wherever_it_does(tiny_vgg, pictures):
    failure = type("CUDARuntimeError", (Exception,), {"__module__": "cupy_backends.cuda.api.runtime"})

    def fail(step):
        raise failure("cudaErrorECCUncorrectable: an error")

    with pytest.raises(ns.DeviceError, match="the GPU failed"):
        transfer(**pictures, vgg=tiny_vgg(), callback=fail, **SMALL)
    with pytest.raises(ns.DeviceError, match="the GPU failed"):
        ns.minimize(lambda x: (float((x**2).sum()), 2 * x), np.ones(3), iterations=3, callback=fail)


def test_one_source_can_be_several_pictures_of_a_run_and_of_several_runs(tiny_vgg, picture):
    image = (255 * picture(60, 80)).astype("uint8")
    options = {"vgg": tiny_vgg(), "scales": (24,), "iterations": 1}
    source = Source(image)
    for size in (32, 48):
        expected = transfer(image, image, init=image, size=size, style_size=60, **options)
        result = transfer(source, source, init=source, size=size, style_size=60, **options)
        assert np.array_equal(result.image, expected.image)


def test_new_weights_hold_at_finer_scales_too(tiny_vgg, pictures):
    run = Run("transfer", pictures, vgg=tiny_vgg(), **SMALL)
    for step in run.steps():
        if step.iteration == 1 and not run.changes:
            run.change(alpha=0.0)
    assert run.history[-1]["size"] == 40
    assert run.history[-1]["terms"]["content/conv4_2"] == 0


class Halved:
    """x = 2 v, a step to the right and round the edge: so that its adjoint is not its inverse."""

    def picture(self, v):
        return 2 * np.roll(v, 1, axis=1)

    def adjoint(self, gx):
        return 2 * np.roll(gx, -1, axis=1)

    def of_picture(self, x):
        return np.roll(x, -1, axis=1) / 2


def test_a_variable_stands_between_the_optimizer_and_the_pixels(tiny_vgg, picture, pictures, monkeypatch):
    objective = Objective(tiny_vgg(), content=picture(19, 23), style=pictures["style"])
    v = Halved().of_picture(picture(19, 23, 2))
    assert ns.check_adjoint(Halved().picture, Halved().adjoint, v, np.random.default_rng(1).random(v.shape)) < 1e-14
    assert ns.check_gradient(through(Halved(), objective), v, step=3e-8) < 1e-6
    plain = transfer(**pictures, vgg=tiny_vgg(), **SMALL)
    monkeypatch.setitem(VARIABLES, "pixels", Halved())
    result = transfer(**pictures, vgg=tiny_vgg(), **SMALL, bounds="none")
    assert result.history[0]["terms"] == pytest.approx(plain.history[0]["terms"], rel=1e-6)
    assert losses(result.history)[-1] < 0.8 * losses(result.history)[5]  # the start of the last scale
    assert result.image.shape == plain.image.shape
    assert np.abs(result.image - plain.image).mean() < 0.1


def test_weights_that_cannot_be(tiny_vgg, pictures):
    run = Run("texture", {"style": pictures["style"]}, vgg=tiny_vgg(), **SMALL)
    with pytest.raises(ValueError, match="alpha: not a weight of this run; it has beta, tv"):
        run.change(alpha=1.0)
    with pytest.raises(ValueError, match="beta is a number, 0 or more; got -1"):
        run.change(beta=-1)
    assert run.changes == []


def test_a_run_whose_weights_were_changed_is_gone_on_with(tiny_vgg, pictures, tmp_path):
    """With the weights that it had when it was kept."""

    def changed(**options):
        run = Run("transfer", pictures, vgg=tiny_vgg(), **SMALL, **options)
        seen = []
        with contextlib.closing(run.steps()) as steps:
            for step in steps:
                seen.append(step.loss)
                if len(seen) == 3:
                    run.change(beta=100.0)
                if len(seen) == 5 and options:
                    shutil.copy(tmp_path / "run.h5", tmp_path / "kept.h5")
                    break
        return run

    whole = changed()
    changed(checkpoint=tmp_path / "run.h5", checkpoint_every=1)
    run = Run("transfer", pictures, vgg=tiny_vgg(), **SMALL, resume=tmp_path / "kept.h5")
    result = run.go()
    assert losses(result.history) == losses(whole.history)
    assert result.settings["changes"] == [{"iteration": 2, "beta": 100.0}]


def test_several_styles_are_inputs_of_a_run(tiny_vgg, pictures, picture):
    other = picture(24, 44, 2).astype("float32")
    styles = [(pictures["style"], 0.7), (other, 0.3)]
    options = {"vgg": tiny_vgg(), "size": 40, "scales": (), "iterations": 0, "init": "content"}
    alone = [transfer(pictures["content"], style, **options) for style, _ in styles]
    both = transfer(pictures["content"], styles, **options)

    def style_terms(result):
        return {name: value for name, value in result.history[0]["terms"].items() if name[:5] == "style"}

    expected = {
        name: 0.7 * first + 0.3 * second
        for (name, first), second in zip(style_terms(alone[0]).items(), style_terms(alone[1]).values(), strict=True)
    }
    assert style_terms(both) == pytest.approx(expected, rel=1e-12)
    assert both.settings["style_weights"] == {"style": 0.7, "style 2": 0.3}
    assert (both.settings["style"], both.settings["style 2"]) == ("ndarray", "ndarray")
    planned = ns.plan("transfer", content=pictures["content"], style=styles, weights="builtin", size=40, scales=())
    assert planned.size == (30, 40)


def test_a_kept_run_knows_each_of_its_styles(tiny_vgg, pictures, picture, tmp_path):
    styles = [(pictures["style"], 0.7), (picture(24, 44, 2).astype("float32"), 0.3)]
    options = {"vgg": tiny_vgg(), "size": 40, "scales": (), "iterations": 2}
    transfer(pictures["content"], styles, checkpoint=tmp_path / "run.h5", **options)
    other = [styles[0], (picture(24, 44, 3).astype("float32"), 0.3)]
    with pytest.raises(ValueError, match="a run with another style 2 picture"):
        transfer(pictures["content"], other, resume=tmp_path / "run.h5", **options)
    with pytest.raises(ValueError, match="style_weights"):
        transfer(pictures["content"], [styles[0], (styles[1][0], 0.4)], resume=tmp_path / "run.h5", **options)


@pytest.mark.parametrize("style", [[], [("a.png", -1.0)], [("a.png", 0.0)], [("a.png", "much")], ["a.png"]])
def test_styles_that_cannot_be(pictures, style):
    with pytest.raises(ValueError, match=r"list of \(picture, weight\)|weight of a style picture is a number above 0"):
        transfer(pictures["content"], style)


@pytest.fixture
def opens(monkeypatch):
    """The names of the files that Pillow opens."""
    names = []
    pillows = Image.open

    def noted(file, *arguments, **options):
        names.append(str(file))
        return pillows(file, *arguments, **options)

    monkeypatch.setattr(Image, "open", noted)
    return names


@pytest.fixture
def folder(tmp_path, monkeypatch, picture, tiny_weights):
    for name, seed in (("photo.png", 0), ("painting.jpg", 1), ("start.png", 2)):
        Image.fromarray((255 * picture(40, 52, seed)).astype(np.uint8)).save(tmp_path / name)
    ns.write_weights(tmp_path / "tiny.h5", ns.WeightFile(tiny_weights))
    monkeypatch.chdir(tmp_path)
    return tmp_path


QUICK = ["--size", "40", "--scales", "24", "--iterations", "2", "--weights", "tiny.h5"]


def test_every_file_is_opened_once(folder, opens, monkeypatch):
    pytest.importorskip("matplotlib")
    weights = []
    h5py_file = h5py.File

    def noted(name, *arguments, **options):
        weights.append(str(name))
        return h5py_file(name, *arguments, **options)

    monkeypatch.setattr(h5py, "File", noted)
    command = ["transfer", "photo.png", "painting.jpg", "-o", "out.png", "--init", "start.png", "--report", "run.html"]
    assert main([*command, *QUICK, "--quiet"]) == 0
    assert sorted(opens) == ["painting.jpg", "photo.png", "start.png"]
    assert weights == ["tiny.h5"]


def test_files_that_are_gone_when_a_run_has_begun_are_not_missed(folder):
    expected = transfer("photo.png", "painting.jpg", init="start.png", vgg=ns.load_vgg("tiny.h5"), **SMALL)
    vgg = ns.load_vgg("tiny.h5")

    def gone(progress):
        for name in ("photo.png", "painting.jpg", "start.png"):
            (folder / name).write_bytes(b"something else")

    result = transfer("photo.png", "painting.jpg", init="start.png", vgg=vgg, callback=gone, **SMALL)
    assert np.array_equal(result.image, expected.image)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
def test_a_shape_is_told_without_decoding(tmp_path, monkeypatch, suffix, orientation):
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    path = tmp_path / f"picture.{suffix}"
    Image.new("RGB", (30, 20), "red").save(path, exif=exif)
    shape = ns.load_image(path).shape[:2]
    assert shape == ((30, 20) if orientation in (6, 8) else (20, 30))

    def fail(*_, **__):
        raise AssertionError("decoded")

    sample = ns.load_image("sample:coast").shape[:2]
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    assert decoding(path)[0] == shape
    assert decoding("sample:coast")[0] == sample


def test_the_shape_of_a_png_that_says_at_its_end_how_to_turn_it(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "picture.png"
    Image.new("RGB", (30, 20), "red").save(path, exif=exif)
    data = path.read_bytes()
    at = data.index(b"eXIf") - 4
    length = int.from_bytes(data[at : at + 4], "big") + 12
    chunk, rest = data[at : at + length], data[:at] + data[at + length :]
    end = rest.index(b"IEND") - 4
    path.write_bytes(rest[:end] + chunk + rest[end:])
    assert ns.load_image(path).shape[:2] == (30, 20)
    assert decoding(path)[0] == (30, 20)


def test_a_source_holds_what_was_asked_for(picture):
    image = picture(60, 80).astype("float32")
    source = Source((255 * image).astype("uint8"))
    whole = Source((255 * image).astype("uint8"))
    source = source.kept([20, 40], [(10, 30)])
    assert source.held == 40
    assert source.shape == (60, 80)
    for size in (20, 40):
        assert np.array_equal(source.at(size), whole.at(size))
        assert not source.at(size).flags.writeable
    assert np.array_equal(source.fit((10, 30)), whole.fit((10, 30)))
    assert source.at(30).shape == whole.at(30).shape  # from what is held
    assert np.abs(source.at(30) - whole.at(30)).mean() < 0.02
    assert np.array_equal(whole.at(60), Source((255 * image).astype("uint8")).at(60))  # it is as it was


def test_the_whole_picture_is_let_go(picture):
    source = Source(picture(600, 800).astype("float32"))
    assert source.kept([20]).held == 20
    assert source.kept([20], [(300, 300)]).held == 20  # a crop is not the picture
    assert Source((255 * picture(60, 400)).astype("uint8")).kept([128], [(96, 128)]).at(100).shape == (15, 100, 3)


def test_a_run_holds_its_pictures_at_its_sizes_and_no_larger(picture):
    large = picture(150, 200).astype("float32")
    s = settings_of("transfer", size=40, style_size=60, scales=(20,), init=large).completed("transfer")
    inputs = Inputs("transfer", {"content": large, "style": [(large, 1.0), (large, 2.0)]}, s)
    assert [given.source.held for given in inputs.each] == [40, 60, 60]
    assert inputs._start.held == 20
    for size in (20, 40):
        scale = next(scale for scale in inputs.scales if scale["result"] == size)
        assert np.array_equal(inputs.content(scale), ns.load_image(large, size))


def test_inputs_name_what_they_are_not_given(pictures):
    s = settings_of("transfer").completed("transfer")
    with pytest.raises(ValueError, match="transfer takes a content and a style picture"):
        Inputs("transfer", {"content": pictures["content"]}, s)
    with pytest.raises(TypeError, match="transfer has no setting 'layer'"):
        transfer(**pictures, layer="conv4_2")
    with pytest.raises(ValueError, match="unknown use case 'paint': choose from transfer, texture, reconstruct"):
        Run("paint", pictures)


def test_several_styles_on_the_command_line_are_those_of_python(folder, capsys):
    """Weights are shares; without them, equal ones; a folder stands for its pictures; a report shows them all."""
    vgg = ns.load_vgg("tiny.h5")
    small = {"size": 40, "scales": (24,), "iterations": 2, "vgg": vgg}
    command = ["transfer", "photo.png", "painting.jpg", "--size", "40", "start.png", *QUICK[2:], "-o"]
    assert main([*command, "out.png", "--style-weights", "3,1"]) == 0
    expected = transfer("photo.png", [("painting.jpg", 0.75), ("start.png", 0.25)], **small)
    assert np.array_equal(ns.load_image("out.png"), np.rint(255 * expected.image) / np.float32(255))
    record = ns.read_settings("out.png")
    assert (record["style"], record["style 2"]) == ("painting.jpg", "start.png")
    assert record["style_weights"] == {"style": 0.75, "style 2": 0.25}
    Path("a, b").mkdir()  # any character in a path
    for name in ("painting.jpg", "start.png"):
        shutil.copy(name, "a, b")
    Path("a, b", "notes.txt").write_text("no picture")
    assert main([*command, "equal.png"]) == main(["transfer", "photo.png", "a, b", *QUICK, "-o", "folder.png"]) == 0
    assert Path("equal.png").read_bytes() == Path("folder.png").read_bytes()
    assert ns.read_settings("folder.png")["style_weights"] == {"style": 0.5, "style 2": 0.5}
    assert main(["texture", "painting.jpg", "start.png", *QUICK, "-o", "texture.png"]) == 0
    assert main(["plan", "photo.png", "painting.jpg", "start.png", *QUICK]) == 0
    capsys.readouterr()
    Path("empty").mkdir()
    for words, message in (
        (["a, b", "--style-weights", "1"], "--style-weights: 1 number for 2 style pictures"),
        (["empty"], "empty: a folder without pictures"),
        (["painting.jpg", "-o", "painting.jpg"], "painting.jpg: named twice in this command"),
    ):
        assert main(["transfer", "photo.png", *words, *QUICK, *([] if "-o" in words else ["-o", "no.png"])]) == 2
        assert message in capsys.readouterr().err


def test_a_run_with_several_styles_is_gone_on_with(folder, monkeypatch):
    command = ["transfer", "photo.png", "painting.jpg", "start.png", "--style-weights", "1,2", *QUICK]
    assert main([*command, "-o", "out.png", "--checkpoint", "run.h5", "--quiet"]) == 0
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert main(["transfer", "--resume", "../run.h5", "--iterations", "4", "-o", "more.png", "--quiet"]) == 0
    assert ns.read_settings("more.png")["style_weights"] == pytest.approx({"style": 1 / 3, "style 2": 2 / 3})


def test_a_report_of_several_styles_one_of_them_elongated(folder):
    pytest.importorskip("matplotlib")
    Image.fromarray(np.full((6, 200, 3), 90, np.uint8)).save("long.png")
    command = ["transfer", "photo.png", "painting.jpg", "long.png", *QUICK, "-o", "out.png", "--report", "run.html"]
    assert main(command) == 0
    page = Path("run.html").read_text()
    assert "Style: painting.jpg" in page
    assert "Style 2: long.png" in page
