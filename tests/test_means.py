"""How a run fits into the memory that there is: whole, in tiles, with fewer pairs."""

import sys
from dataclasses import replace

import numpy as np
import pytest

import nsnumpy as ns
from nsnumpy.cli.main import main
from nsnumpy.run.budget import Network, Run, run_memory
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
    assert ways[4:6] == [(1024, False, None), (1024, False, 14)]
    assert ways[-2:] == [(512, False, FEWEST), (256, False, FEWEST)]
    assert [bytes_of(run) for run in chosen] == sorted((bytes_of(run) for run in chosen), reverse=True)
    assert fitted(NETWORK, RUN, None, "auto", None) == RUN  # what there is cannot be told


def test_what_was_asked_for_stays():
    assert fitted(NETWORK, RUN, 0, "off", 7) == replace(RUN, pairs=7)
    assert fitted(NETWORK, RUN, 0, 640, 7) == replace(RUN, tile=640, keep=False, pairs=7)
    assert fitted(NETWORK, RUN, 0, 640, None) == replace(RUN, tile=640, keep=False, pairs=FEWEST)
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


def test_a_run_that_does_not_fit_is_tiled_by_itself(tiny_vgg, picture, little, monkeypatch):
    monkeypatch.setattr(sys.modules["nsnumpy.run.means"], "TILES", (48, 32))
    vgg, given = tiny_vgg(dtype="float32"), (picture(150, 200, 1), picture(60, 80, 2))
    options = {"vgg": vgg, "size": 200, "iterations": 2, "style_size": 64}
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
