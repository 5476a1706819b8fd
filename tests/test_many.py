"""A folder of photographs in one style: what is painted, what is kept, and what is said of those that cannot be."""

import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nsnumpy as ns
from nsnumpy import targets
from nsnumpy.cli.main import main
from nsnumpy.run import inputs, many, run, shared
from nsnumpy.run.processes import do_each

QUICK = "--weights tiny.h5 --iterations 3 --size 40 --threads 1"
NAMES = ["a photo, of é.png", "b.jpg", "c.JPG"]


@pytest.fixture
def folder(tmp_path, monkeypatch, picture, tiny_weights):
    """A folder with three photographs of different proportions, a painting and a weight file."""
    (tmp_path / "photos").mkdir()
    for seed, name in enumerate(NAMES):
        save(tmp_path / "photos" / name, picture(40 + 4 * seed, 52, seed))
    save(tmp_path / "painting.jpg", picture(44, 48, 9))
    ns.write_weights(tmp_path / "tiny.h5", ns.WeightFile(tiny_weights))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save(path, picture):
    Image.fromarray((255 * picture).astype(np.uint8)).save(path)


def call(capsys, *command):
    """(exit status, standard output, standard error) of a transfer of photos/ to out/ with these options."""
    words = [word for part in command for word in part.split(" ")]
    try:
        status = main(["transfer", "photos", "painting.jpg", "-o", "out", *QUICK.split(), *words])
    except SystemExit as exit:
        status = exit.code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, captured.out, captured.err


def pixels(folder="out"):
    return {path.name: ns.load_image(path).tobytes() for path in Path(folder).iterdir()}


def test_each_photograph_is_painted_under_its_own_name(folder, capsys):
    status, out, err = call(capsys)
    assert (status, err) == (0, "")
    first, *lines = out.splitlines()
    assert re.fullmatch(r"3 photographs; the largest 40 x 37: about \d.\d\d GB of memory, .* for 3 iterations", first)
    assert [line.partition(":")[0] for line in lines] == [f"out/{name}" for name in NAMES]
    assert all(re.search(r": 40 x \d\d, 3 iterations in \d+.\d s, loss \S+ -> \S+$", line) for line in lines)
    assert sorted(os.listdir("out")) == NAMES
    ns.transfer(
        "photos/b.jpg", "painting.jpg", vgg=ns.load_vgg("tiny.h5", threads=1), iterations=3, size=40
    ).save("alone.jpg")  # fmt: skip
    assert np.array_equal(ns.load_image("alone.jpg"), ns.load_image("out/b.jpg"))
    record = ns.read_settings("out/b.jpg")
    assert (record["content"], record["style"], record["iterations"]) == ("b.jpg", "painting.jpg", 3)


def test_what_cannot_be_written_in_its_own_format_is_a_png(folder, capsys):
    save("photos/d.v2.bmp", ns.load_image("photos/b.jpg"))
    assert call(capsys, "--quiet") == (0, "", "")
    assert sorted(os.listdir("out")) == [*NAMES, "d.v2.png"]
    shutil.copy("photos/d.v2.bmp", "photos/d.v2.gif")
    status, out, err = call(capsys)
    assert (status, out) == (2, "")
    assert err == ("nsnumpy: error: photos/d.v2.bmp and d.v2.gif: both would become out/d.v2.png; rename one of them\n")


def test_the_style_is_described_once_and_the_network_made_once(folder, capsys, monkeypatch):
    described, loaded = [], []
    style_target, load = targets.style_target, many.load_vgg
    for module in (shared, inputs):
        monkeypatch.setattr(module, "style_target", lambda *given: described.append(1) or style_target(*given))
    monkeypatch.setattr(many, "load_vgg", lambda *given, **options: loaded.append(1) or load(*given, **options))
    assert call(capsys)[0] == 0
    assert (len(described), len(loaded)) == (1, 1)
    shutil.rmtree("out")
    assert call(capsys, "--colors photo")[0] == 0  # where each photograph changes the style
    assert (len(described), len(loaded)) == (4, 2)


@pytest.mark.slow
def test_shared_targets_change_no_number(tiny_vgg, picture):
    vgg, shared_targets = tiny_vgg(), ns.StyleTargets()
    options = {"vgg": vgg, "size": 40, "iterations": 3}
    for seed in (0, 1):
        alone = ns.transfer(picture(40, 52, seed), picture(44, 48, 9), **options)
        together = ns.transfer(picture(40, 52, seed), picture(44, 48, 9), targets=shared_targets, **options)
        assert np.array_equal(alone.image, together.image)
    assert len(shared_targets) == 1
    for changed in ({"style_size": 30}, {"style_layers": ["conv1_1"]}, {"style_statistics": "covariance"}):
        before = len(shared_targets)
        alone = ns.transfer(picture(40, 52), picture(44, 48, 9), **options | changed)
        together = ns.transfer(picture(40, 52), picture(44, 48, 9), targets=shared_targets, **options | changed)
        assert np.array_equal(alone.image, together.image)
        assert len(shared_targets) == before + 1
    for again, more in ((tiny_vgg(), 0), (tiny_vgg(pooling="max"), 1)):
        before = len(shared_targets)
        ns.transfer(picture(40, 52), picture(44, 48, 9), targets=shared_targets, **options | {"vgg": again})
        assert len(shared_targets) == before + more
    ns.transfer(picture(40, 52), picture(44, 48, 9), targets=shared_targets, border="zero", **options)
    assert len(shared_targets) == before + 2


def test_what_is_done_is_not_done_again(folder, capsys, monkeypatch):
    call(capsys)
    Path("out/b.jpg").unlink()
    before = {name: os.stat(f"out/{name}").st_mtime_ns for name in os.listdir("out")}
    painted = []
    monkeypatch.setattr(many, "Run", lambda *given, **options: painted.append(given) or run.Run(*given, **options))
    status, out, err = call(capsys, "--threads 2")  # which only rounds otherwise
    assert (status, err) == (0, "")
    assert out.startswith("3 photographs, 2 done before; the largest 40 x ")
    assert [given[1]["content"].name for given in painted] == ["b.jpg"]
    assert {name: os.stat(f"out/{name}").st_mtime_ns for name in before} == before
    assert call(capsys, "--no-clobber") == (0, "3 photographs, 3 done before\n", "")
    assert len(painted) == 1


@pytest.mark.parametrize("change", ["--beta 3", "photo", "style", "weights", "someone's", "plain"])
def test_a_result_that_is_another_one_is_left_alone(folder, capsys, picture, tiny_weights, change):
    call(capsys)
    options = []
    if change.startswith("--"):
        options = [change]
    elif change in ("photo", "style"):
        save({"photo": f"photos/{NAMES[0]}", "style": "painting.jpg"}[change], picture(40, 52, 12))
    elif change == "weights":
        (weight, bias), *_ = tiny_weights.values()
        ns.write_weights("tiny.h5", ns.WeightFile(tiny_weights | {"conv1_1": (weight, bias + 1)}))
    elif change == "someone's":
        save(f"out/{NAMES[0]}", picture(40, 52, 12))
    else:
        result = ns.transfer(f"photos/{NAMES[0]}", "painting.jpg", size=40, iterations=0)
        result.save(f"out/{NAMES[0]}")
    before = pixels()
    status, out, err = call(capsys, *options)
    assert (status, out, err.count("\n")) == (2, "", 1)
    more = " and 2 more like it" if change in ("--beta 3", "style", "weights") else ""
    assert err == (
        f"nsnumpy: error: out/{NAMES[0]}: is there, made of something else, with other settings or by someone else; "
        f"choose another folder, or remove it{more}\n"
    )
    assert pixels() == before


def test_one_that_cannot_be_painted_does_not_end_the_others(folder, capsys, picture):
    Path("photos/a broken.jpg").write_text("nothing")
    Path("photos/bb.png").symlink_to("nowhere.png")
    save("photos/narrow.png", picture(200, 8))
    Path("photos/notes.txt").write_text("no picture")
    Path("photos/.hidden.jpg").write_text("no picture")
    Path("photos/album.jpg").mkdir()
    status, out, err = call(capsys)
    assert status == 1
    assert [line.partition(":")[0] for line in out.splitlines()[1:]] == [f"out/{name}" for name in NAMES]
    lines = err.splitlines()
    assert lines[0].startswith("nsnumpy: error: photos/a broken.jpg: not a picture that can be read")
    assert lines[1] == "nsnumpy: error: photos/bb.png: no such file"
    assert lines[2].startswith("nsnumpy: error: photos/narrow.png: ")
    assert lines[3:] == ["nsnumpy: error: 3 of 6 photographs could not be painted"]
    assert sorted(os.listdir("out")) == NAMES


@pytest.mark.slow
def test_processes_make_the_same_pictures(folder, capsys):
    Path("photos/broken.jpg").write_text("nothing")
    assert call(capsys)[0] == 1
    shutil.move("out", "one")
    status, out, err = call(capsys, "--jobs 2")
    assert status == 1
    assert out.splitlines()[0].endswith("; 2 at a time")
    assert sorted(line.partition(":")[0] for line in out.splitlines()[1:]) == [f"out/{name}" for name in NAMES]
    assert "photos/broken.jpg: not a picture" in err
    assert pixels() == pixels("one")


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("jobs", [1, 2])
def test_what_is_noted_of_a_photograph_is_a_line(folder, capsys, jobs):
    frames = [Image.new("RGB", (52, 40), color) for color in ("red", "blue")]
    frames[0].save("photos/moving.gif", save_all=True, append_images=frames[1:])
    status, _, err = call(capsys, f"--jobs {jobs}")
    assert status == 0
    assert re.fullmatch(r"nsnumpy: note: photos/moving.gif: .*\n", err)


def test_the_cores_are_shared_out_among_the_jobs(folder, capsys, monkeypatch):
    import nsnumpy.cli.many

    seen = []
    monkeypatch.setattr(nsnumpy.cli.many, "usable_cores", lambda: 8)
    monkeypatch.setattr(nsnumpy.cli.many, "paint_each", lambda task, *_, **options: seen.append((task, options)))
    words = ["transfer", "photos", "painting.jpg", "-o", "out", "--size", "40", "--weights", "tiny.h5", "--force"]
    for jobs, threads, expected in ((1, None, None), (3, None, 2), (3, 5, 5), (9, None, 2)):
        given = [] if threads is None else ["--threads", str(threads)]
        assert main([*words, "--jobs", str(jobs), *given]) == 0
        task, options = seen.pop()
        assert (task.network["threads"], options["processes"]) == (expected, min(jobs, 3))


def test_what_does_not_fit_at_once_is_said_before(folder, capsys, monkeypatch):
    plan_module = sys.modules["nsnumpy.run.means"]
    monkeypatch.setattr(plan_module, "resident_bytes", lambda: 80_000_000)
    monkeypatch.setattr(plan_module, "available_bytes", lambda: 200_000_000)
    status, out, err = call(capsys, "--jobs 3")
    assert (status, out, os.path.exists("out")) == (1, "", False)
    assert re.fullmatch(
        r"nsnumpy: error: 3 at a time would take about 0.\d\d GB of memory, and 0.20 GB are to be had: choose --jobs "
        r"[12] or fewer, or a smaller --size; or --force to try all the same\n",
        err,
    )
    monkeypatch.setattr(plan_module, "available_bytes", lambda: 90_000_000)
    assert "choose --size" in call(capsys, "--size 400")[2]
    assert call(capsys, "--force")[0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("-o out.jpg", "out.jpg: photos is a folder, and its results need one, too; name a folder"),
        ("-o painting.jpg", "painting.jpg: is a file; name a folder"),
        ("-o photos", "photos: holds the photographs; choose another folder for the results"),
        ("-o no/out", "no/out: the folder no does not exist; make it first"),
        ("--checkpoint run.h5", "--checkpoint is of a single photograph, and photos is a folder"),
        ("--report run.html", "--report is of a single photograph, and photos is a folder"),
        ("--log run.jsonl", "--log is of a single photograph, and photos is a folder"),
        ("--save-every 2", "--save-every is of a single photograph, and photos is a folder"),
        ("--depth 16", "--depth is of a single photograph, and photos is a folder"),
        ("--init nobody.png", "nobody.png: no such file"),
        ("--init random", "init 'random': choose noise, content, style, or a picture file"),
        ("--style-size 16", "the style would be 16 x 15 pixels, and the deepest layer needs 16: take style size 17 or"),
        ("--style-weights 1,2", "--style-weights: 2 numbers for 1 style picture"),
        ("--jobs 0", "a whole number, 1 or more, expected; '0' given (see nsnumpy transfer --help)"),
    ],
)
def test_a_wrong_command_is_one_line_before_anything_is_made(folder, capsys, options, message):
    before = sorted(os.listdir())
    status, out, err = call(capsys, options)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert sorted(os.listdir()) == before


def test_a_folder_without_photographs_and_jobs_without_a_folder(folder, capsys):
    os.mkdir("empty")
    assert main(["transfer", "empty", "painting.jpg", "-o", "out"]) == 2
    assert capsys.readouterr().err == "nsnumpy: error: empty: a folder without pictures\n"
    assert main(["transfer", "photos/b.jpg", "painting.jpg", "-o", "out.png", "--jobs", "2"]) == 2
    assert capsys.readouterr().err == "nsnumpy: error: --jobs is of a folder of photographs; photos/b.jpg is none\n"
    assert not {"out", "out.png"} & set(os.listdir())


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_leaves_what_is_done_and_nothing_half_done(folder, jobs):
    command = f"transfer photos painting.jpg -o out {QUICK} --jobs {jobs} --optimizer adam".replace(
        "--iterations 3", "--iterations 150"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "nsnumpy", *command.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 120
    while not (os.path.isdir("out") and set(os.listdir("out")) & set(NAMES)):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, err = process.communicate(timeout=60)  # which ends when the last of the processes has
    done = os.listdir("out")
    assert set(done) <= set(NAMES)
    if process.returncode == 0:
        pytest.skip("it was too quick to be interrupted")
    assert process.returncode == 130
    assert err == (
        f"nsnumpy: interrupted; {len(done)} of 3 photographs are done in out, and the same command goes on\n"
    )
    for name in done:
        assert ns.load_image(f"out/{name}").shape[1] == 40


def sends_half_a_result(name):
    """As a process does that is killed meanwhile."""
    frame = sys._getframe()
    while "result_queue" not in frame.f_locals:
        frame = frame.f_back
    os.write(frame.f_locals["result_queue"]._writer.fileno(), struct.pack("!i", 1000) + b"half")
    Path(name).touch()
    time.sleep(60)


def test_ctrl_c_does_not_wait_for_the_rest_of_a_result(tmp_path):
    begun = tmp_path / "begun"

    def interrupt():
        while not begun.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            do_each(sends_half_a_result, [begun, begun], lambda *_: None, processes=2)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_result_that_cannot_be_written_ends_it(folder, capsys, monkeypatch):
    import nsnumpy.cli.many

    def full(*_):
        raise OSError(28, "No space left on device", "out/x")

    monkeypatch.setattr(nsnumpy.cli.many, "with_key", full)
    status, _, err = call(capsys)
    assert (status, err) == (
        1,
        "nsnumpy: error: out/x: No space left on device; 0 of 3 photographs are done in out, and the same command "
        "goes on\n",
    )


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals here")
def test_a_terminal_has_a_bar_that_counts_photographs(folder):
    fcntl, termios = (pytest.importorskip(name) for name in ("fcntl", "termios"))
    terminal, end = os.openpty()
    try:
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        program = [sys.executable, "-m", "nsnumpy", "transfer", "photos", "painting.jpg", "-o", "out", *QUICK.split()]
        done = subprocess.run(program, stdout=subprocess.PIPE, stderr=end, check=True, timeout=120)
        os.set_blocking(terminal, False)
        seen = os.read(terminal, 1 << 16).decode()
    finally:
        os.close(end)
        os.close(terminal)
    assert len(done.stdout.splitlines()) == 4
    assert {"0", "3"} <= set(re.findall(r"(\d)/3 \|", seen))
    assert "iteration 3 of 3" in seen


def test_the_results_are_not_put_among_the_styles(folder, capsys):
    os.mkdir("styles")
    shutil.copy("painting.jpg", "styles")
    assert main(["transfer", "photos", "styles", "-o", "styles", *QUICK.split()]) == 2
    assert "styles: holds the pictures of the style; choose another folder" in capsys.readouterr().err
    assert os.listdir("styles") == ["painting.jpg"]


def test_a_folder_that_is_not_there_is_named(folder, capsys):
    assert main(["transfer", "nothere/", "painting.jpg", "-o", "out", *QUICK.split()]) == 2
    assert capsys.readouterr().err == "nsnumpy: error: nothere/: no such folder\n"


def test_targets_of_parts_of_a_painting_are_told_apart(tiny_vgg, picture):
    painting, upper = picture(40, 52, 9), np.arange(40)[:, None] < np.full((40, 52), 20)
    targets = ns.StyleTargets()
    options = {"vgg": tiny_vgg(), "size": 40, "iterations": 1}
    for own in (upper, ~upper):
        style = [(painting, 1.0, np.ones((40, 52)), own)]
        alone, shared_ = (ns.transfer(picture(40, 52), style, targets=t, **options) for t in (None, targets))
        assert np.array_equal(alone.image, shared_.image)
    assert len(targets) == 2


def test_a_key_knows_of_the_border(folder, capsys):
    command = ["transfer", "photos", "painting.jpg", "-o", "out", *QUICK.split()]
    assert main(command) == 0
    assert main([*command, "--border", "zero"]) == 2
    assert "with other settings" in capsys.readouterr().err


def test_a_key_knows_of_the_default_iterations(picture, tiny_weights, monkeypatch):
    """Those of another version: its results are other ones."""

    def keys():
        tasks = (
            many.Task(picture(24, 24), options, ns.WeightFile(tiny_weights), {}) for options in ({}, {"iterations": 9})
        )
        return [task.key() for task in tasks]

    before = keys()
    monkeypatch.setattr(many, "FINEST", many.FINEST + 1)
    assert [one == other for one, other in zip(before, keys(), strict=True)] == [False, True]


@pytest.mark.parametrize("option", ["--regions map.png", "--mask painting.jpg=sky.png"])
def test_regions_are_of_a_single_photograph(folder, capsys, option):
    assert main(["transfer", "photos", "painting.jpg", "-o", "out", *option.split(), *QUICK.split()]) == 2
    assert f"{option.split()[0]} is of a single photograph, and photos is a folder" in capsys.readouterr().err


def test_an_empty_folder_is_not_left(folder, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("nsnumpy.cli.many.paint_each", interrupt)
        status, _, err = call(capsys)
        assert (status, os.path.exists("out")) == (130, False)
        assert err.startswith("nsnumpy: interrupted; 0 of 3 photographs are done in out")
        os.mkdir("out")  # the user's own
        assert (call(capsys)[0], os.path.exists("out")) == (130, True)
        os.rmdir("out")
    for name in NAMES:
        Path("photos", name).write_bytes(b"no picture")
    assert (call(capsys)[0], os.path.exists("out")) == (1, False)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_photograph_that_is_too_thin_does_not_end_the_others(folder, capsys, jobs):
    """It is the largest of them, too; and it is told as for one alone."""
    save("photos/thin.png", np.full((40, 400, 3), 0.5))
    status, out, err = call(capsys, f"--jobs {jobs}")
    assert status == 1
    assert "; the largest 40 x 37: about" in out
    assert err == (
        "nsnumpy: error: photos/thin.png: the result would be 40 x 4 pixels, and the deepest layer needs 16: take size "
        "155 or more\nnsnumpy: error: 1 of 4 photographs could not be painted\n"
    )
    assert sorted(os.listdir("out")) == NAMES


def test_photographs_that_are_all_too_thin_are_a_wrong_command(folder, capsys):
    status, out, err = call(capsys, "--size 8 --style-size 40")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "the result would be 8 x 6 pixels, and the deepest layer needs 16: take size 21 or more" in err
    assert not os.path.exists("out")


def test_a_result_that_its_format_cannot_hold_is_told_before(folder, capsys, monkeypatch):
    shutil.copy("photos/b.jpg", "photos/d.jpg")
    save("photos/d.webp", ns.load_image("photos/b.jpg"))
    monkeypatch.setattr(many, "load_vgg", lambda *_, **__: pytest.fail("loaded"))
    status, out, err = call(capsys, "--size 16384")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(
        "nsnumpy: error: out/d.webp: .webp goes up to 16383 pixels a side, and the picture has 16384 x"
    )
