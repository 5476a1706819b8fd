"""Labelled pictures: read from HDF5 files and folders, cropped and mirrored; and what cannot be trained on is told."""

import contextlib
import io
import warnings

import h5py
import numpy as np
import pytest
from PIL import Image

from weights_tools.train import DataError, Pictures, read_pictures
from weights_tools.train.data import halved, middle_crops, open_pictures, random_crops

SIDE = 16
LOSSLESS = {"png": {}, "webp": {"lossless": True}}


def random_pixels(n, height=SIDE, width=SIDE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3)).astype(np.uint8)


def encoded(pixels, kind="png", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **LOSSLESS.get(kind, {}), **options)
    return buffer.getvalue()


def write_h5(path, pictures, labels, kind="png", **other):
    """An HDF5 file of encoded pictures; `other` replaces datasets, None leaves one out, a dict makes a group."""
    datasets = {
        kind: np.frombuffer(b"".join(pictures), np.uint8),
        "offset": np.cumsum([0] + [len(picture) for picture in pictures]),
        "label": labels,
    }
    with h5py.File(path, "w") as h5:
        for name, data in (datasets | other).items():
            if isinstance(data, dict):
                h5.create_group(name)
            elif data is not None:
                h5[name] = data
    return path


def write_folder(path, pixels, labels, kind="png"):
    for k, label in enumerate(labels):
        folder = path / f"class{label}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{k:03}.{kind}").write_bytes(encoded(pixels[k], kind))
    return path


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
def test_an_hdf5_file_of_pictures(tmp_path, kind):
    pixels = random_pixels(5)
    if kind == "jpeg":
        pixels[:] = pixels[:, :1, :1]  # one colour each, which JPEG nearly keeps
    labels = np.array([3, 0, 2, 0, 1], np.uint8)
    path = write_h5(tmp_path / "p.h5", [encoded(p, kind) for p in pixels], labels, kind)
    got = read_pictures(path, SIDE, seed=9)
    assert (got.pixels.dtype, got.pixels.shape, len(got)) == (np.uint8, (5, SIDE, SIDE, 3), 5)
    assert np.abs(got.pixels.astype(int) - pixels).max() <= (3 if kind == "jpeg" else 0)
    assert (got.labels.tolist(), got.labels.dtype, got.classes) == ([3, 0, 2, 0, 1], np.int64, 4)  # in the file's order
    assert "pixels" not in repr(got)


def test_an_hdf5_file_that_begins_later_and_ends_earlier(tmp_path):
    pixels = random_pixels(3)
    pictures = [b"head", *(encoded(p) for p in pixels), b"tail"]
    offset = np.cumsum([len(picture) for picture in pictures])[:4].astype(np.uint32)
    path = write_h5(tmp_path / "p.h5", pictures, np.arange(3), offset=offset)
    assert np.array_equal(read_pictures(path, SIDE).pixels, pixels)


def test_a_folder_with_a_folder_for_each_class(tmp_path):
    pixels, labels = random_pixels(9), [0, 1, 2] * 3
    write_folder(tmp_path, pixels, labels)
    deep = tmp_path / "class1" / "deeper"
    deep.mkdir()
    (tmp_path / "class1" / "004.png").rename(deep / "4.PNG")
    (tmp_path / "class2" / "notes.txt").write_text("not a picture")
    (tmp_path / "loose.png").write_bytes(encoded(pixels[0]))
    got = read_pictures(tmp_path, SIDE, seed=1)
    numbers = [next(k for k in range(9) if np.array_equal(pixels[k], picture)) for picture in got.pixels]
    assert sorted(numbers) == list(range(9))
    assert got.labels.tolist() == [labels[number] for number in numbers]
    assert got.classes == 3
    again, other = read_pictures(tmp_path, SIDE, seed=1), read_pictures(tmp_path, SIDE, seed=2)
    assert np.array_equal(again.pixels, got.pixels)
    assert not np.array_equal(other.pixels, got.pixels)
    assert numbers != list(range(9))  # so that what is held out is of all classes


def test_the_middle_square_is_taken_upright_in_rgb(tmp_path):
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, :20], wide[:, 20:40], wide[:, 40:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    half = np.zeros((24, 24, 3), np.uint8)
    half[:12] = 200
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera lay on its side
    grey = io.BytesIO()
    Image.fromarray(np.full((16, 16), 77, np.uint8)).save(grey, "PNG")
    pictures = [encoded(wide), encoded(wide.swapaxes(0, 1)), encoded(half, exif=turned), grey.getvalue()]
    got = read_pictures(write_h5(tmp_path / "p.h5", pictures, [0, 1, 0, 1]), SIDE).pixels
    assert (got[:2] == (0, 255, 0)).all()
    assert (got[2, :, :7] == 0).all()
    assert (got[2, :, 9:] == 200).all()
    assert (got[3] == 77).all()


@pytest.mark.parametrize("side", [8, 16, 24])
def test_pictures_are_scaled(tmp_path, side):
    pixels = np.kron(random_pixels(2, 8, 8), np.ones((1, 2, 2, 1), np.uint8))
    path = write_h5(tmp_path / "p.h5", [encoded(p) for p in pixels], [0, 1])
    got = read_pictures(path, side).pixels
    assert got.shape == (2, side, side, 3)
    if side <= 16:
        assert np.array_equal(got, pixels[:, :: 16 // side, :: 16 // side])  # the mean of four equal ones
    assert got.mean() == pytest.approx(pixels.mean(), abs=2)


def test_the_last_pictures_are_held_out():
    pixels = random_pixels(7)
    pictures = Pictures(pixels, np.arange(7) % 3, 3)
    train, held_out = pictures.split(2)
    assert np.array_equal(train.pixels, pixels[:5])
    assert np.array_equal(held_out.pixels, pixels[5:])
    assert (train.labels.tolist(), held_out.labels.tolist()) == ([0, 1, 2, 0, 1], [2, 0])
    assert train.classes == held_out.classes == 3
    assert [len(part) for part in pictures.split(0)] == [7, 0]
    assert [len(part) for part in pictures.split(6)] == [1, 6]
    for bad in (7, 8, -1):
        with pytest.raises(DataError, match=f"7 pictures: {bad} of them cannot be held out; hold out fewer"):
            pictures.split(bad)


# Crops.


def coordinates(n, side):
    """Pictures each of whose pixels says where it is: (row, column, number of the picture)."""
    pixels = np.empty((n, side, side, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(side)[:, None], np.arange(side)
    pixels[..., 2] = np.arange(n)[:, None, None]
    return pixels


def test_random_crops_are_contiguous_anywhere_and_mirrored_half_of_the_time():
    n, side, crop = 250, 13, 10
    x = random_crops(coordinates(n, side), crop, np.random.default_rng(0))
    assert (x.shape, x.dtype) == ((n, crop, crop, 3), np.float32)
    exact = x.astype(np.float64) * 255
    values = np.rint(exact).astype(int)
    assert np.abs(exact - values).max() < 1e-4
    places, mirrors = set(), 0
    for k in range(n):
        mirrored = values[k, 0, 0, 1] > values[k, 0, -1, 1]
        picture = values[k, :, ::-1] if mirrored else values[k]
        top, left, _ = picture[0, 0]
        assert (picture[..., 0] == np.arange(top, top + crop)[:, None]).all()
        assert (picture[..., 1] == np.arange(left, left + crop)).all()
        assert (picture[..., 2] == k).all()
        places.add((top, left))
        mirrors += mirrored
    assert places == {(top, left) for top in range(4) for left in range(4)}
    assert 95 < mirrors < 155
    assert np.array_equal(x, random_crops(coordinates(n, side), crop, np.random.default_rng(0)))
    whole = random_crops(coordinates(20, 9), 9, np.random.default_rng(1))
    assert set(np.rint(whole[:, 0, 0, 1] * 255)) == {0, 8}


@pytest.mark.parametrize(("side", "crop", "first"), [(13, 10, 1), (12, 8, 2), (9, 9, 0)])
def test_middle_crops(side, crop, first):
    x = middle_crops(coordinates(3, side), crop)
    assert (x.shape, x.dtype) == ((3, crop, crop, 3), np.float32)
    assert x * 255 == pytest.approx(coordinates(3, side)[:, first : first + crop, first : first + crop], abs=1e-4)


@pytest.mark.parametrize("side", [2, 8, 9])
def test_halved_pictures(side):
    pixels = random_pixels(3, side, side)
    pixels[0] = 255
    got = halved(pixels)
    assert (got.shape, got.dtype) == ((3, side // 2, side // 2, 3), np.uint8)
    for index in np.ndindex(got.shape):
        n, h, w, c = index
        window = pixels[n, 2 * h : 2 * h + 2, 2 * w : 2 * w + 2, c].astype(int)
        assert got[index] == (window.sum() + 2) // 4


def test_nothing_is_written_into():
    pixels = coordinates(4, 10)
    pixels.flags.writeable = False
    random_crops(pixels, 6, np.random.default_rng(0))
    halved(pixels)
    x = middle_crops(pixels, 10)
    assert not np.shares_memory(x, pixels)


# Calibration pictures.


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_calibration_pictures_are_spread_and_need_no_labels(tmp_path, kind):
    pixels = random_pixels(9, 18, 21)
    path = tmp_path / "p.h5"
    if kind == "file":
        write_h5(path, [encoded(p) for p in pixels], None)
    else:
        path = write_folder(tmp_path / "p", pixels, [0] * 4 + [1] * 5)
    for most, expected in ((3, [0, 4, 8]), (9, range(9)), (100, range(9)), (1, [0])):
        images = list(open_pictures(path, most))
        assert len(images) == len(expected)
        for k, image in zip(expected, images, strict=True):
            assert image.mode == "RGB"
            assert np.array_equal(np.asarray(image), pixels[k])  # not scaled, not cropped


def test_calibration_pictures_may_lie_in_one_folder_and_there_must_be_some(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(random_pixels(1)[0]))
    assert len(list(open_pictures(tmp_path, 5))) == 1
    (tmp_path / "a.png").rename(tmp_path / "a.bmp")
    for path, words in ((tmp_path, "no pictures in it"), (tmp_path / "no", "no such file or folder")):
        with pytest.raises(DataError, match=words):
            next(open_pictures(path, 5))


# What cannot be read.

PICTURES = [encoded(p) for p in random_pixels(4)]
CUTS = {"truncated": -60, "cut in its head": 20, "empty": 0}


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"label": None}, "no dataset 'label': a class for each picture is needed"),
        ({"label": np.arange(3)}, "dataset 'label': 4 whole numbers, 0 or more and below 4, expected"),
        ({"label": np.arange(4) - 1}, "dataset 'label': 4 whole numbers, 0 or more and below 4, expected"),
        ({"label": np.arange(4) / 2}, "dataset 'label': a list of whole numbers expected"),
        ({"label": np.arange(4).reshape(2, 2)}, "dataset 'label': a list of whole numbers expected"),
        ({"label": np.zeros(4, int)}, "two classes at least expected"),
        ({"offset": None}, "datasets 'offset' and one of webp, jpeg, png expected"),
        ({"png": None}, "datasets 'offset' and one of webp, jpeg, png expected"),
        ({"offset": np.array([0])}, "dataset 'offset' does not fit to 'png'"),
        ({"offset": np.array([0, 9, 5, 20, 30])}, "dataset 'offset' does not fit to 'png'"),
        ({"offset": np.array([-1, 5, 9, 20, 30])}, "dataset 'offset' does not fit to 'png'"),
        ({"offset": np.array([0, 5, 9, 20, 10**7])}, "dataset 'offset' does not fit to 'png'"),
        ({"offset": np.array([0, 5, 9, 20, 30])}, "picture 0 cannot be read"),
    ],
)
def test_what_is_wrong_with_an_hdf5_file(tmp_path, other, words):
    path = write_h5(tmp_path / "p.h5", PICTURES, np.arange(4) % 2, **other)
    with pytest.raises(DataError) as caught:
        read_pictures(path, SIDE)
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not HDF5 at all", b"\x89HDF\r\n\x1a\n" + bytes(40)])
def test_what_is_no_hdf5_file(tmp_path, content):
    (tmp_path / "p.h5").write_bytes(content)
    with pytest.raises(DataError, match=r"p\.h5: not an HDF5 file of pictures, and no folder of them"):
        read_pictures(tmp_path / "p.h5", SIDE)
    with pytest.raises(DataError, match="missing: no such file or folder"):
        read_pictures(tmp_path / "missing", SIDE)


def test_what_is_wrong_with_a_folder(tmp_path):
    for _ in range(2):  # without a folder in it, and with an empty one
        with pytest.raises(DataError, match=r"a folder for each class expected, with pictures in it \(\.webp, \.jpg"):
            read_pictures(tmp_path, SIDE)
        (tmp_path / "a").mkdir(exist_ok=True)
    (tmp_path / "a" / "1.png").write_bytes(PICTURES[0])
    with pytest.raises(DataError, match="two classes at least expected"):
        read_pictures(tmp_path, SIDE)


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
@pytest.mark.parametrize("cut", CUTS)
def test_a_picture_that_cannot_be_read_is_named(tmp_path, kind, cut):
    good = encoded(random_pixels(1, 40, 40)[0], kind)
    pictures = [good, good, good[: CUTS[cut]], good]
    with pytest.raises(DataError, match=r"p\.h5: picture 2 cannot be read") as caught:
        read_pictures(write_h5(tmp_path / "p.h5", pictures, [0, 1, 0, 1], kind), SIDE)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"p\.h5: picture 2 cannot be read"):
        list(open_pictures(tmp_path / "p.h5", 4))


def test_what_is_no_picture_is_an_error_too(tmp_path):
    write_folder(tmp_path, random_pixels(2), [0, 1])
    (tmp_path / "class0" / "x.jpg").write_text("hello")
    with pytest.raises(DataError, match="cannot be read"):
        read_pictures(tmp_path, SIDE)


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
def test_a_damaged_picture_is_a_data_error_or_a_picture(tmp_path, kind):
    """Whatever Pillow makes of it."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "words"
    good = encoded(random_pixels(1)[0], kind, exif=exif)
    for _ in range(60):
        damaged = bytearray(good)
        for place in rng.integers(0, min(len(damaged), 150), 3):
            damaged[place] = rng.integers(0, 256)
        write_h5(tmp_path / "p.h5", [good, bytes(damaged)], [0, 1], kind)
        with warnings.catch_warnings(), contextlib.suppress(DataError):
            warnings.simplefilter("ignore")  # of Pillow, about odd metadata
            assert read_pictures(tmp_path / "p.h5", SIDE).pixels.shape == (2, SIDE, SIDE, 3)


def test_a_picture_that_is_a_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="cannot be read"):
        read_pictures(write_h5(tmp_path / "p.h5", PICTURES, [0, 1, 0, 1]), SIDE)


def test_only_webp_jpeg_and_png_are_opened(tmp_path):
    """For some of the other formats Pillow runs another program."""
    for kind in ("BMP", "TIFF"):
        pictures = [encoded(p, kind) for p in random_pixels(2)]
        with pytest.raises(DataError, match="cannot be read"):
            read_pictures(write_h5(tmp_path / "p.h5", pictures, [0, 1]), SIDE)


@pytest.mark.parametrize(
    "other",
    [
        {"label": {}},
        {"label": np.array([0, 1, 0, 2**62])},
        {"label": np.array([0, 1, 0, 2**64 - 1], np.uint64)},
        {"offset": {}},
        {"offset": np.int64(3)},
        {"offset": np.arange(10).reshape(5, 2)},
        {"offset": np.array([b"a"] * 5)},
        {"png": {}},
    ],
)
def test_datasets_of_another_kind(tmp_path, other):
    path = write_h5(tmp_path / "p.h5", PICTURES, np.arange(4) % 2, **other)
    with pytest.raises(DataError, match=r"p\.h5: dataset") as caught:
        read_pictures(path, SIDE)
    assert "\n" not in str(caught.value)


def test_a_broken_picture_in_a_folder_is_named(tmp_path):
    write_folder(tmp_path, random_pixels(2), [0, 1])
    (tmp_path / "class0" / "broken.png").write_bytes(PICTURES[0][:-60])
    with pytest.raises(DataError, match=r"broken\.png"):
        read_pictures(tmp_path, SIDE)


def test_the_words_about_a_broken_picture_are_for_the_user(tmp_path):
    write_folder(tmp_path, random_pixels(2), [0, 1])
    (tmp_path / "class0" / "x.jpg").write_text("hello")
    with pytest.raises(DataError) as caught:
        read_pictures(tmp_path, SIDE)
    assert "BytesIO" not in str(caught.value)
