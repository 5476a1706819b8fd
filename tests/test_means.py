"""How a run fits into the memory that there is: whole, in tiles, with fewer pairs."""

import errno
import os
import shutil
import sys
import tempfile
from dataclasses import replace

import numpy as np
import pytest

import nsnumpy as ns
from nsnumpy.cli.main import main
from nsnumpy.lbfgs import MEMORY
from nsnumpy.run.budget import Network, Run, host_memory, pairs_bytes, run_memory
from nsnumpy.run.means import FEWEST, fitted

NETWORK = Network(
    "vgg16",
    {f"conv{b}_{n}": 32 * b for b, most in ((1, 2), (2, 2), (3, 3), (4, 3), (5, 1)) for n in range(1, most + 1)},
)
RUN = Run((3000, 4000), (3000, 4000), (700, 900), ("conv4_2",), ("conv1_1", "conv5_1"), "lbfgs-device", 1)


def bytes_of(run):
    return sum(run_memory(NETWORK, run).values())


def test_what_fits_is_chosen_in_the_order_of_what_it_costs():
    """Whole; in large tiles; with the content made again; with fewer pairs; last in small tiles."""
    chosen, room = [], bytes_of(RUN)
    while True:
        run = fitted(NETWORK, RUN, room, "auto", None)
        if chosen and run == chosen[-1]:
            break
        if bytes_of(run) <= room:
            assert run == fitted(NETWORK, RUN, bytes_of(run), "auto", None)
        chosen.append(run)
        room = bytes_of(run) - 1
    ways = [(run.tile, run.keep, run.pairs) for run in chosen]
    assert ways[:4] == [(None, True, None), (2048, True, None), (2048, False, None), (1024, True, None)]
    assert ways[4:6] == [(1024, False, None), (1024, False, MEMORY["lbfgs-device"] - 1)]
    assert ways[-1] == (256, False, FEWEST)
    assert [bytes_of(run) for run in chosen] == sorted((bytes_of(run) for run in chosen), reverse=True)
    assert fitted(NETWORK, RUN, None, "auto", None) == RUN  # what there is cannot be told


def test_a_smaller_tile_has_room_for_more_pairs_again():
    small = replace(RUN, size=(1300, 1300), content=(1300, 1300))
    asked = replace(small, tile=512, keep=False, pairs=4)
    assert fitted(NETWORK, small, bytes_of(asked), "auto", None) == asked


def test_what_was_asked_for_stays():
    assert fitted(NETWORK, RUN, 0, "off", 7) == replace(RUN, pairs=7)
    assert fitted(NETWORK, RUN, 0, 640, 7) == replace(RUN, tile=640, keep=False, pairs=7)
    assert fitted(NETWORK, RUN, 0, 640, None) == replace(RUN, tile=640, keep=False, pairs=FEWEST)
    assert (
        fitted(NETWORK, replace(RUN, size=(300, 400), content=None), None, 640, 7).tile == 640
    )  # for the style picture
    assert fitted(NETWORK, RUN, None, 640, None) == replace(RUN, tile=640)
    assert fitted(NETWORK, replace(RUN, optimizer="adam"), 0, "auto", None).pairs is None


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"tile": 15}, "tile is auto, off, or a whole number of pixels, 16 or more; got 15"),
        ({"tile": "some"}, "got 'some'"),
        ({"tile": True}, "got True"),
        ({"memory_pairs": 0}, "memory pairs are a whole number, 1 or more; got 0"),
    ],
)
def test_means_that_cannot_be(options, wrong):
    given = {"content": "sample:coast", "style": "sample:starry"}
    with pytest.raises(ValueError, match=wrong):
        ns.plan("transfer", **given, **options)
    with pytest.raises(ValueError, match=wrong):
        ns.Run("transfer", given, size=64, **options)


@pytest.fixture
def little(monkeypatch):
    """little(n): there are n bytes to be had beside what the process holds."""

    def little(n):
        monkeypatch.setattr(sys.modules["nsnumpy.run.means"], "available_bytes", lambda: 10**9 + n)
        monkeypatch.setattr(sys.modules["nsnumpy.run.means"], "resident_bytes", lambda: 10**9)

    return little


def test_a_gpus_tiles_leave_the_rest_to_the_host(little, stand_in):
    run = replace(RUN, device="gpu")
    little(host_memory(NETWORK, replace(run, pairs=5)) + 1)
    chosen = fitted(NETWORK, run, bytes_of(replace(run, tile=1024, keep=False)), "auto", None)
    assert (chosen.tile, chosen.pairs) == (1024, 5)
    assert fitted(NETWORK, run, bytes_of(run), "auto", None) == run  # whole, it is the card's


def test_no_more_pairs_are_counted_than_there_are_iterations():
    """But for scipy's, whose workspace is made at once."""
    of = {n: pairs_bytes(NETWORK, replace(RUN, iterations=n, pairs=pairs)) for n, pairs in ((2, None), (15, 2), (9, 9))}
    assert of[2] == of[15] == of[9] * 2 // 9 == 4 * 3000 * 4000 * 3 * 4
    assert bytes_of(replace(RUN, iterations=2)) == bytes_of(replace(RUN, pairs=2)) < bytes_of(RUN)
    assert bytes_of(replace(RUN, iterations=99)) == bytes_of(RUN)
    scipy = replace(RUN, optimizer="scipy")
    assert bytes_of(replace(scipy, iterations=2)) == bytes_of(scipy)
    pictures = {"content": "sample:coast", "style": "sample:starry", "size": 200, "tile": "off"}
    few, two, more = (
        ns.plan("transfer", **pictures, **given).parts["optimizer"]
        for given in ({"iterations": 2}, {"memory_pairs": 2}, {"iterations": (40, 7), "scales": (100, 200)})
    )
    assert few == two < more == ns.plan("transfer", **pictures, memory_pairs=7).parts["optimizer"]


def test_what_goes_to_a_folder_is_no_memory(stand_in):
    kept = run_memory(NETWORK, RUN)["optimizer"] - run_memory(NETWORK, replace(RUN, scratch=True))["optimizer"]
    assert kept == pairs_bytes(NETWORK, RUN) == 16 * 3000 * 4000 * 3 * 4
    on_card = replace(RUN, device="gpu")
    assert run_memory(NETWORK, replace(on_card, scratch=True)) == run_memory(NETWORK, on_card)


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ("--memory-pairs 3 --optimizer adam", "memory pairs are what L-BFGS remembers; adam has none"),
        (
            "--scratch . --optimizer scipy",
            "a scratch folder is for what lbfgs-device remembers; scipy has no use for it",
        ),
        ("--scratch none", "none: no such folder"),
        ("--scratch full", "full: 0.00 GB are free, and what L-BFGS remembers takes"),
        ("--scratch sealed", "sealed: Read-only file system; name another folder"),
    ],
)
def test_what_cannot_be_held_anywhere_is_said_before(tmp_path, monkeypatch, capsys, options, wrong):
    monkeypatch.chdir(tmp_path)
    made = tempfile.TemporaryFile

    def temporary(*given, dir=None, **others):
        if dir == "sealed":
            raise OSError(errno.EROFS, "Read-only file system")
        return made(*given, dir=dir, **others)

    monkeypatch.setattr(tempfile, "TemporaryFile", temporary)
    usage = shutil.disk_usage
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: usage(path)._replace(free=1000) if path == "full" else usage(path)
    )
    for folder in ("full", "sealed"):
        (tmp_path / folder).mkdir()
    command = "transfer sample:coast sample:starry --size 64 --iterations 1 --threads 1 -o out.png"
    assert main([*command.split(), *options.split()]) == 2
    err = capsys.readouterr().err
    assert wrong in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out.png").exists()


def test_a_run_without_a_first_iteration_replaces_no_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = "transfer sample:coast sample:starry --size 64 --threads 1 -o out.png --iterations"
    assert main([*command.split(), "1"]) == 0
    before = (tmp_path / "out.png").read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    capsys.readouterr()
    assert main([*command.split(), "2", "--scratch", "."]) == 1
    err = capsys.readouterr().err
    assert ".: No space left on device after 0 of 2 iterations: name a --scratch with more room, or fewer" in err
    assert "there is nothing to keep yet, and out.png was not written" in err
    assert (tmp_path / "out.png").read_bytes() == before


def test_a_run_that_was_kept_whole_goes_on_whole(tiny_vgg, picture, little, tmp_path):
    given, kept = (picture(100, 140, 1), picture(60, 80, 2)), tmp_path / "run.h5"
    options = {"vgg": tiny_vgg(dtype="float32"), "size": 140, "style_size": 64, "scales": ()}
    ns.transfer(*given, iterations=1, checkpoint=kept, **options)
    little(1_000_000)
    assert "tile" not in ns.transfer(*given, iterations=2, resume=kept, **options).settings
    with pytest.warns(UserWarning, match="remembered more steps, or fewer: the run goes on, by another way"):
        ns.transfer(*given, iterations=3, resume=kept, memory_pairs=3, **options)


@pytest.mark.slow
def test_a_run_that_does_not_fit_is_tiled_by_itself(tiny_vgg, picture, little, monkeypatch):
    monkeypatch.setattr(sys.modules["nsnumpy.run.means"], "TILES", (48, 32))
    vgg, given = tiny_vgg(dtype="float32"), (picture(150, 200, 1), picture(60, 80, 2))
    options = {"vgg": vgg, "size": 200, "scales": (), "iterations": 1, "style_size": 64}
    whole = ns.transfer(*given, **options)
    assert "tile" not in whole.settings
    little(15_000_000)
    tiled = ns.transfer(*given, **options)
    assert tiled.settings["tile"] in (48, 32)
    assert tiled.image == pytest.approx(whole.image, abs=1e-3)


def test_the_command_says_how_it_makes_the_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = "transfer sample:coast sample:starry --size 64 --style-size 48 --iterations 1 --threads 1"
    assert main([*small.split(), "-o", "a.png", "--tile", "32", "--memory-pairs", "3", "--checkpoint", "a.h5"]) == 0
    assert "GB of memory, in tiles of 32, L-BFGS remembering 3 steps, " in capsys.readouterr().out
    record = ns.read_settings("a.png")
    assert (record["tile"], record["memory_pairs"]) == (32, 3)
    assert main(["transfer", "--resume", "a.h5", "--iterations", "2"]) == 0
    assert "in tiles of 32, L-BFGS remembering 3 steps, " in capsys.readouterr().out
    assert main([*small.split(), "-o", "b.png", "--tile", "off"]) == 0
    assert "tiles" not in capsys.readouterr().out
    assert np.abs(ns.load_image("a.png") - ns.load_image("b.png")).max() < 0.2
    for wrong in ("15", "x", "-3"):
        with pytest.raises(SystemExit) as error:
            main([*small.split(), "-o", "c.png", "--tile", wrong])
        assert error.value.code == 2
        assert "auto, off or a number of pixels, 16 or more" in capsys.readouterr().err
