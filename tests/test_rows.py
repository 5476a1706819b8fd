"""PNG and TIFF files that are written by rows: every value comes back, little memory is taken, and what is large has a
form that can hold it."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from nsnumpy import PictureError, load_image, read_settings, save_image
from nsnumpy.files import rows
from nsnumpy.files.rows import quantised, write_png, write_tiff

rng = np.random.default_rng(5)


def smooth(height, width):
    y, x = np.mgrid[:height, :width] / max(height, width, 2)
    waves = np.stack([np.sin(7 * x), np.cos(5 * y), np.sin(9 * x * y)], axis=-1) / 2 + 0.5
    return (waves + rng.normal(0, 0.004, waves.shape)).astype(np.float32)  # a little beyond [0, 1], too


SHAPES = [(1, 1), (1, 40), (40, 1), (30, 41)]


def decoded_png(data):
    """(depth, pixels, filters) of a PNG file of one kind, RGB without interlacing, as its specification reads."""
    chunks, at = {}, 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        chunks[kind] = chunks.get(kind, b"") + data[at + 8 : at + 8 + length]
        assert (
            zlib.crc32(data[at + 4 : at + 8 + length])
            == struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0]
        )
        at += 12 + length
    width, height, depth, *kind = struct.unpack(">2I5B", chunks[b"IHDR"])
    assert kind == [2, 0, 0, 0]
    step = 3 * depth // 8
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + step * width).astype(int)
    above = [0] * (step * width)
    for line in lines:
        row = []
        for i, value in enumerate(line[1:]):
            a, b, c = (row[i - step], above[i], above[i - step]) if i >= step else (0, above[i], 0)
            paeth = min((a, b, c), key=lambda neighbour: abs(a + b - c - neighbour))
            row.append((value + (0, a, b, (a + b) // 2, paeth)[line[0]]) % 256)
        line[1:] = above = row
    pixels = lines[:, 1:].astype(np.uint8).tobytes()
    return depth, np.frombuffer(pixels, ">u2" if depth == 16 else "u1").reshape(height, width, 3), lines[:, 0].tolist()


def decoded_tiff(data):
    """(tags, pixels) of a TIFF file that is compressed with deflate, as TIFF 6.0 and BigTIFF read."""
    big = data[2] == 43
    assert data[:4] == (b"II+\0" if big else b"II*\0")
    head, entry, whole = ("<Q", "<2HQ", "<Q") if big else ("<H", "<2HI", "<I")
    room, kinds, tags = struct.calcsize(whole), {2: "s", 3: "H", 4: "I", 16: "Q"}, {}
    (at,) = struct.unpack_from(whole, data, 8 if big else 4)
    (count,) = struct.unpack_from(head, data, at)
    at += struct.calcsize(head)
    for _ in range(count):
        tag, kind, many = struct.unpack_from(entry, data, at)
        at += struct.calcsize(entry)
        form = f"<{many}{kinds[kind]}"
        start = at if struct.calcsize(form) <= room else struct.unpack_from(whole, data, at)[0]
        tags[tag] = struct.unpack_from(form, data, start)
        at += room
    assert list(tags) == sorted(tags)
    assert struct.unpack_from(whole, data, at) == (0,)  # no further picture
    (width,), (height,), dtype = tags[256], tags[257], {8: "u1", 16: "<u2"}[tags[258][0]]
    tiled = 322 in tags
    block = (tags[323][0], tags[322][0]) if tiled else (tags[278][0], width)
    pixels = np.zeros((-(-height // block[0]) * block[0], -(-width // block[1]) * block[1], 3), dtype)
    places = [(y, x) for y in range(0, height, block[0]) for x in range(0, width, block[1])]
    for (y, x), offset, size in zip(places, tags[324 if tiled else 273], tags[325 if tiled else 279], strict=True):
        part = np.frombuffer(zlib.decompress(data[offset : offset + size]), dtype).reshape(-1, block[1], 3)
        pixels[y : y + len(part), x : x + block[1]] = np.cumsum(part, axis=1, dtype=dtype)
    return tags, pixels[:height, :width]


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_value_of_a_png_comes_back(shape, depth, monkeypatch):
    monkeypatch.setattr(rows, "BAND", 150)  # several bands, of which each has the last row of the one before above it
    image, file = smooth(*shape), io.BytesIO()
    write_png(file, image, depth)
    found, pixels, filters = decoded_png(file.getvalue())
    assert found == depth
    assert np.array_equal(pixels, np.rint(image.clip(0, 1) * (2**depth - 1)))
    assert len(set(filters)) > 1 or min(shape) == 1
    with Image.open(file) as read:  # of 16 bits Pillow gives the upper 8
        assert np.array_equal(np.asarray(read), pixels if depth == 8 else pixels >> 8)


def test_a_row_is_known_by_the_one_above_across_bands(monkeypatch):
    monkeypatch.setattr(rows, "BAND", 150)
    write_png(file := io.BytesIO(), np.broadcast_to(rng.random((1, 50, 3)), (12, 50, 3)))
    assert decoded_png(file.getvalue())[2][1:] == [2] * 11  # "up", which leaves nothing


@pytest.mark.parametrize("limit", [rows.CLASSIC, 100], ids=["classic", "big"])
@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_value_of_a_tiff_comes_back(shape, depth, tiled, limit, monkeypatch):
    monkeypatch.setattr(rows, "BAND", 150)
    monkeypatch.setattr(rows, "TILE", 16)
    monkeypatch.setattr(rows, "TILED", 1 if tiled else 4096)
    image, file = smooth(*shape), io.BytesIO()
    write_tiff(file, image, depth, "what it says", limit)
    tags, pixels = decoded_tiff(file.getvalue())
    assert (322 in tags, file.getvalue()[2]) == (tiled, 43 if limit == 100 else 42)
    assert b"".join(tags[270]) == b"nsnumpy: what it says\0"
    assert np.array_equal(pixels, np.rint(image.clip(0, 1) * (2**depth - 1)))
    with Image.open(file) as read:
        assert np.array_equal(np.asarray(read), pixels if depth == 8 else pixels >> 8)


def test_what_may_be_larger_than_a_tiff_can_be_is_a_big_one():
    """Its size is known beforehand, at its largest: where noise cannot be compressed, the raw size and a little."""
    image, sizes = rng.random((40, 50, 3)), {}
    write_tiff(noise := io.BytesIO(), image)
    for limit in (len(noise.getvalue()) - 1, 2 * len(noise.getvalue())):
        write_tiff(file := io.BytesIO(), image, limit=limit)
        sizes[limit] = file.getvalue()[2]
    assert list(sizes.values()) == [43, 42]


def test_a_large_tiff_is_in_tiles(tmp_path):
    save_image(tmp_path / "long.tif", smooth(3, 4096), {"seed": 1})
    with Image.open(tmp_path / "long.tif") as image:
        assert image.tag_v2[322] == image.tag_v2[323] == 256
    assert read_settings(tmp_path / "long.tif") == {"seed": 1}
    save_image(tmp_path / "small.tif", smooth(3, 4095))
    with Image.open(tmp_path / "small.tif") as image:
        assert 322 not in image.tag_v2


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bits_go_out_with_the_settings_and_come_back(tmp_path, name):
    image = np.broadcast_to(np.linspace(0, 1, 3 * 200).reshape(1, 200, 3), (4, 200, 3))
    save_image(tmp_path / name, image, {"content": "é.jpg"}, depth=16)
    data = (tmp_path / name).read_bytes()
    pixels = decoded_png(data)[1] if name == "a.png" else decoded_tiff(data)[1]
    assert len(np.unique(pixels)) == 3 * 200
    assert load_image(tmp_path / name) == pytest.approx(image, abs=1 / 255)
    assert read_settings(tmp_path / name) == {"content": "é.jpg"}


@pytest.mark.parametrize(
    ("name", "shape", "depth", "message"),
    [
        ("a.webp", (1, 16384), 8, "a.webp: .webp goes up to 16383 pixels a side, and the picture has 16384 x 1: end"),
        ("a.jpg", (65501, 1), 8, "a.jpg: .jpg goes up to 65500 pixels a side, and the picture has 1 x 65501: end"),
        ("a.jpeg", (2, 2), 16, "a.jpeg: .jpeg has 8 bits; PNG and TIFF have 16: end the name in .png or .tif"),
        ("a.png", (2, 2), 12, "depth is 8 or 16 bits, not 12"),
    ],
)  # fmt: skip
def test_what_a_format_cannot_hold_is_said(tmp_path, name, shape, depth, message):
    with pytest.raises(PictureError, match=message):
        save_image(tmp_path / name, np.zeros((*shape, 3), np.float32), depth=depth)
    assert not list(tmp_path.iterdir())


def test_the_largest_that_they_hold(tmp_path):
    for name, side in (("a.webp", 16383), ("a.jpg", 65500), ("a.png", 70000), ("a.tif", 70000)):
        save_image(tmp_path / name, np.zeros((1, side, 3), np.float32))
        assert load_image(tmp_path / name).shape == (1, side, 3)


@pytest.mark.parametrize(("name", "depth"), [("a.png", 8), ("a.png", 16), ("a.tif", 8), ("a.tif", 16), ("a.jpg", 8)])
def test_writing_takes_no_second_copy(tmp_path, name, depth):
    """What Python and NumPy take is the same for a picture four times as high, and less than that picture, 27 MB;
    Pillow's own 4 bytes a pixel, which a JPEG needs, are not among it."""
    peaks = []
    for height in (375, 1500):
        image = np.broadcast_to(smooth(1, 1500), (height, 1500, 3)).copy()
        tracemalloc.start()
        save_image(tmp_path / name, image, depth=depth)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
    assert peaks[1] < 0.8 * image.nbytes


def test_quantised_is_rounded_and_clipped():
    assert quantised(np.array([-1, 0.4999 / 255, 0.5001 / 255, 2.0])).tolist() == [0, 0, 1, 255]
    assert quantised(np.array([0.5001 / 65535, 2.0]), 16).tolist() == [1, 65535]
