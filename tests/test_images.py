"""Pictures in every form that users have them, and out again, whole or not at all."""

import io
import math
import os
import struct
import subprocess
import sys
import warnings
import zlib
from contextlib import nullcontext

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, PngImagePlugin, features

from nsnumpy import PictureError, load_image, read_settings, sample_names, save_image
from nsnumpy.files.images import Source, decoding, fit_image
from nsnumpy.files.rows import png_bytes, write_tiff

rng = np.random.default_rng(3)
RGB = (rng.random((20, 30, 3)) * 255).astype(np.uint8)
FLOAT = RGB.astype(np.float32) / 255


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".webp", ".tif", ".tiff", ".jpg", ".jpeg"])
def test_files_go_out_and_come_back(tmp_path, suffix):
    ramp = np.linspace(0, 1, 40)
    smooth = np.stack(np.broadcast_arrays(ramp[:30, None], ramp, 0.5), axis=-1)
    path = tmp_path / f"picture{suffix}"
    save_image(path, smooth)
    back = load_image(path)
    assert (back.dtype, back.shape) == (np.float32, smooth.shape)
    lossless = suffix.lower() in (".png", ".tif", ".tiff")
    assert np.abs(back - smooth).max() <= (0.5 / 255 + 1e-6 if lossless else 0.04)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_values_are_rounded_and_clipped(tmp_path):
    save_image(tmp_path / "a.png", np.array([[[-0.5, 0.4999 / 255, 0.5001 / 255], [1.7, 1.0, 254.4 / 255]]]))
    assert np.asarray(Image.open(tmp_path / "a.png")).tolist() == [[[0, 0, 1], [255, 255, 254]]]


def test_the_bytes_of_a_png_are_those_pixels():
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png_bytes(FLOAT)))), RGB)


def test_settings_travel_in_a_png(tmp_path):
    settings = {"seed": 3, "style_layers": {"conv1_1": 0.2}, "content": "Tübingen.jpg"}
    save_image(tmp_path / "a.png", FLOAT, settings)
    assert read_settings(tmp_path / "a.png") == settings
    save_image(tmp_path / "b.png", FLOAT)
    with pytest.raises(PictureError, match=r"b.png: no nsnumpy settings"):
        read_settings(tmp_path / "b.png")


@pytest.mark.parametrize("kind", ["path", "pil", "uint8", "float32", "float64"])
def test_every_kind_of_picture(tmp_path, kind):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    given = {
        "path": tmp_path / "a.png",
        "pil": Image.fromarray(RGB),
        "uint8": RGB,
        "float32": FLOAT,
        "float64": RGB / 255,
    }[kind]
    assert load_image(given) == pytest.approx(FLOAT, abs=1e-7)
    assert load_image(given, 15).shape == (10, 15, 3)
    assert fit_image(given, (12, 12)).shape == (12, 12, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(tmp_path, orientation):
    upright = Image.fromarray(np.kron(RGB[:2, :3], np.ones((16, 16, 1), np.uint8)))
    turn_back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # PIL's transpositions that undo each orientation's
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright.transpose(turn_back[orientation]) if orientation > 1 else upright
    stored.save(tmp_path / "a.png", exif=exif)
    assert load_image(tmp_path / "a.png") == pytest.approx(np.asarray(upright) / 255, abs=1e-6)


def test_transparency_is_composited_on_white(tmp_path):
    rgba = np.dstack([RGB, np.full(RGB.shape[:2], 128, np.uint8)])
    rgba[0, 0, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "a.png")
    expected = FLOAT * (128 / 255) + (1 - 128 / 255)
    expected[0, 0] = 1
    assert load_image(tmp_path / "a.png") == pytest.approx(expected, abs=1 / 255)
    assert load_image(rgba) == pytest.approx(expected, abs=1 / 255)
    palette = Image.fromarray(RGB).quantize(8)
    palette.save(tmp_path / "p.png", transparency=int(np.asarray(palette)[0, 0]))
    assert load_image(tmp_path / "p.png")[0, 0].tolist() == [1, 1, 1]
    Image.merge("LA", [Image.new("L", (4, 4), 0), Image.new("L", (4, 4), 64)]).save(tmp_path / "la.png")
    assert load_image(tmp_path / "la.png") == pytest.approx(np.full((4, 4, 3), 191 / 255), abs=1 / 255)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK"])
def test_other_modes_become_rgb(tmp_path, mode):
    image = Image.fromarray(RGB).convert(mode)
    image.save(tmp_path / "a.tif")
    with pytest.warns(UserWarning, match="CMYK without a colour profile") if mode == "CMYK" else nullcontext():
        load_image(tmp_path / "a.tif")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert load_image(tmp_path / "a.tif") == pytest.approx(np.asarray(image.convert("RGB")) / 255, abs=1e-6)


def test_16_bits_are_scaled_and_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    for name in ("a.png", "a.tif"):
        Image.fromarray(ramp).save(tmp_path / name)
        assert load_image(tmp_path / name)[..., 1] == pytest.approx(ramp / 65535, abs=0.5 / 255 + 1e-6)
    Image.fromarray((ramp / 65535).astype(np.float32)).save(tmp_path / "f.tif")
    assert load_image(tmp_path / "f.tif")[..., 1] == pytest.approx(ramp / 65535, abs=0.5 / 255 + 1e-6)
    Image.fromarray(ramp.astype(np.float32)).save(tmp_path / "g.tif")
    with pytest.raises(PictureError, match=r"^\S*/g.tif: grey values outside"):
        load_image(tmp_path / "g.tif")


def test_an_icc_profile_is_converted_to_srgb(tmp_path):
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(RGB).save(tmp_path / "srgb.png", icc_profile=lab)
    assert load_image(tmp_path / "srgb.png") == pytest.approx(FLOAT, abs=2 / 255)
    swapped = _profile_with_red_and_blue_exchanged()
    Image.fromarray(RGB).save(tmp_path / "bgr.png", icc_profile=swapped)
    assert load_image(tmp_path / "bgr.png") == pytest.approx(FLOAT[..., ::-1], abs=4 / 255)
    rgba = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "bgra.png", icc_profile=swapped)
    assert load_image(tmp_path / "bgra.png") == pytest.approx(FLOAT[..., ::-1], abs=4 / 255)


def _profile_with_red_and_blue_exchanged() -> bytes:
    """The sRGB profile with the tags of its red and blue primaries exchanged: an honest profile of another space."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")


def test_a_broken_icc_profile_is_named_and_ignored(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png", icc_profile=b"not a profile")
    with pytest.warns(UserWarning, match=r"a.png: its ICC profile cannot be used"):
        assert load_image(tmp_path / "a.png") == pytest.approx(FLOAT, abs=1e-6)


@pytest.mark.parametrize(("size", "shape"), [(60, (40, 60, 3)), (30, (20, 30, 3)), (7, (5, 7, 3)), (1, (1, 1, 3))])
def test_size_is_the_long_side(size, shape):
    assert load_image(RGB, size).shape == shape
    assert load_image(FLOAT, size).shape == shape
    assert load_image(RGB.transpose(1, 0, 2), size).shape == (shape[1], shape[0], 3)
    resized = load_image(FLOAT, size)
    assert 0 <= resized.min() <= resized.max() <= 1


def test_fit_covers_and_crops_the_middle():
    wide = np.zeros((10, 40, 3), np.uint8)
    wide[:, 15:25] = 255
    assert fit_image(wide, (10, 10)) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("name", sample_names())
def test_samples_are_large_enough(name):
    picture = load_image(f"sample:{name}")
    assert max(picture.shape) >= 768
    assert picture.std() > 0.1


def _bytes(kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(np.kron(RGB, np.ones((8, 8, 1), np.uint8))).save(buffer, kind, **options)
    return buffer.getvalue()


def _half(kind):
    return _bytes(kind)[: len(_bytes(kind)) // 2]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.png", b"hello", "not a picture"),
        ("empty.jpg", b"", "not a picture"),
        ("cut.png", _half("PNG"), "broken or truncated"),
        ("cut.jpg", _half("JPEG"), "broken or truncated"),
        ("cut.webp", _half("WEBP"), "broken or truncated"),
        ("cut.tif", _half("TIFF"), "broken or truncated|not a picture"),
        ("flipped.png", _bytes("PNG")[:200] + b"\0\1\2" + _bytes("PNG")[203:], "broken or truncated"),
    ],
)
def test_broken_files_give_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about some of them before it raises
        with pytest.raises(PictureError, match=f"{name}: .*({message})") as raised:
            load_image(tmp_path / name)
    assert "\n" not in str(raised.value)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(PictureError, match=r"none.png: no such file"):
        load_image(tmp_path / "none.png")
    with pytest.raises(PictureError, match="is a folder"):
        load_image(tmp_path)
    with pytest.raises(PictureError, match=r"sample:nobody: no such sample; choose from .*starry"):
        load_image("sample:nobody")


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(PictureError, match="too many pixels"):
        load_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (FLOAT * 255, "divide by 255"),
        (FLOAT - 0.5, r"values in \[0, 1\]"),
        (np.full((4, 4, 3), np.nan), "not finite"),
        (np.zeros((4, 4)), r"\(H, W, 3\) expected; shape \(4, 4\)"),
        (np.zeros((0, 4, 3)), r"\(H, W, 3\) expected"),
        (np.zeros((4, 4, 3), np.int64), "int64 of shape"),
        (np.zeros((4, 4, 2), np.uint8), r"uint8 of shape \(4, 4, 2\)"),
    ],
)
def test_arrays_that_are_no_pictures(array, message):
    with pytest.raises(PictureError, match=message):
        load_image(array)


def test_other_things_are_no_pictures():
    with pytest.raises(TypeError, match="a path, a PIL image or an array expected, int given"):
        load_image(3)
    with pytest.raises(PictureError, match="size is 1 pixel or more"):
        load_image(FLOAT, 0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.bmp", "cannot tell the format"),
        ("a", "end the name"),
        ("no/a.png", "does not exist"),
        ("a" * 300 + ".png", "too long"),
    ],
)
def test_places_where_no_picture_can_go(tmp_path, name, message):
    with pytest.raises((PictureError, OSError), match=message):
        save_image(tmp_path / name, FLOAT)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    save_image(path, FLOAT)
    before = path.read_bytes()

    def fail(file, *arguments):
        file.write(b"half a pic")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nsnumpy.files.images.write_png", fail)
    with pytest.raises(OSError, match="No space left"):
        save_image(path, 1 - FLOAT)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_the_result_has_the_users_file_permissions(tmp_path):
    save_image(tmp_path / "a.png", FLOAT)
    (tmp_path / "b").write_text("")
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_text_chunk_of_another_program_is_not_taken_for_settings(tmp_path):
    info = PngImagePlugin.PngInfo()
    for key in ("Software", "nsnumpy"):
        info.add_text(key, "something")
        Image.fromarray(RGB).save(tmp_path / "a.png", pnginfo=info)
        with pytest.raises(PictureError, match="no nsnumpy settings"):
            read_settings(tmp_path / "a.png")


def test_resampling_is_lanczos():
    expected = np.asarray(Image.fromarray(RGB).resize((12, 8), Image.Resampling.LANCZOS)) / 255
    assert load_image(RGB, 12) == pytest.approx(expected, abs=1e-6)
    assert load_image(FLOAT, 12) == pytest.approx(expected, abs=1.5 / 255)  # Pillow rounds between its two passes
    assert fit_image(FLOAT, (8, 12)) == pytest.approx(expected, abs=1.5 / 255)


def test_large_pictures_are_no_cause_for_a_warning(tmp_path, monkeypatch):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", RGB.shape[0] * RGB.shape[1] - 1)  # Pillow warns, up to twice as many
    assert load_image(tmp_path / "a.png").shape == RGB.shape


def test_damaged_exif_does_not_spoil_a_good_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x829A] = 0.5  # an exposure time, a rational
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=exif, quality=95, subsampling=0)
    content = (tmp_path / "a.jpg").read_bytes()
    start = content.index(b"Exif")
    (length,) = struct.unpack(">H", content[start - 2 : start])
    for position in range(start + 6, start - 2 + length):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        (tmp_path / "b.jpg").write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about the tags
            assert load_image(tmp_path / "b.jpg").shape in ((30, 20, 3), (20, 30, 3)), position


def test_grey_with_transparency_keeps_its_grey_profile(tmp_path):
    profile = _grey_profile(gamma=1.0)
    grey = Image.new("L", (4, 4), 100)
    grey.save(tmp_path / "l.png", icc_profile=profile)
    Image.merge("LA", [grey, Image.new("L", (4, 4), 255)]).save(tmp_path / "la.png", icc_profile=profile)
    grey.save(tmp_path / "t.png", icc_profile=profile, transparency=3)
    expected = 255 * (1.055 * (100 / 255) ** (1 / 2.4) - 0.055)  # linear light to sRGB
    for name in ("l.png", "la.png", "t.png"):
        assert 255 * load_image(tmp_path / name) == pytest.approx(expected, abs=1.5), name


def _grey_profile(gamma: float) -> bytes:
    """A minimal ICC version 2 profile of grey with a power law."""

    def padded(data: bytes) -> bytes:
        return data + b"\0" * (-len(data) % 4)

    text = b"grey"
    tags = {
        b"desc": padded(b"desc" + bytes(4) + struct.pack(">I", len(text) + 1) + text + b"\0" + bytes(78)),
        b"wtpt": b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061),
        b"kTRC": padded(b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))),
        b"cprt": padded(b"text" + bytes(4) + b"none\0"),
    }
    offset = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">2I", offset + len(body), len(data))
        body += data
    header = struct.pack(">I4sI4s4s4s", offset + len(body), bytes(4), 0x02400000, b"mntr", b"GRAY", b"XYZ ")
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    return header + struct.pack(">3i", 63190, 65536, 54061) + bytes(48) + table + body


def test_16_bit_grey_with_a_transparent_value(tmp_path):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    chunk = b"tRNS" + struct.pack(">H", ramp[2, 3])  # which not every Pillow writes for 16 bits
    chunk = struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk))
    content = (tmp_path / "a.png").read_bytes()
    start = content.index(b"IDAT") - 4
    (tmp_path / "a.png").write_bytes(content[:start] + chunk + content[start:])
    picture = load_image(tmp_path / "a.png")[..., 0]
    assert picture[2, 3] == 1
    assert picture[2, 4] == pytest.approx(ramp[2, 4] / 65535, abs=0.01)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_whose_white_is_zero_is_no_negative(tmp_path, dtype):
    """The tag that says so is that of baseline TIFF, 262, with the value 0."""
    ramp = np.linspace(0, np.iinfo(dtype).max, 64).astype(dtype).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "black.tif")
    data = bytearray((tmp_path / "black.tif").read_bytes())
    entry = data.index(struct.pack("<HHI", 262, 3, 1))
    assert data[entry + 8 : entry + 10] == b"\x01\0"
    data[entry + 8] = 0
    (tmp_path / "white.tif").write_bytes(data)
    black, white = (load_image(tmp_path / name) for name in ("black.tif", "white.tif"))
    assert white == pytest.approx(1 - black, abs=1 / 255)
    turned = load_image(_turned(Image.open(tmp_path / "white.tif")))
    assert turned == pytest.approx(np.rot90(white, -1), abs=1e-6)


def _turned(image):
    """With the tag of a camera that was held upright, as an image that is still to be turned."""
    image.load()
    image.getexif()[0x0112] = 6
    return image


def _with_chunk(path, kind, data):
    """A PNG with a chunk after its header."""
    chunk = struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", zlib.crc32(kind + data))
    png = path.read_bytes()
    path.write_bytes(png[:33] + chunk + png[33:])


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "RGBA"])
def test_the_gamma_of_a_png_is_honoured(tmp_path, mode):
    """Intensity itself, gamma 1: 64 of 255 is a quarter of the light, which sRGB writes as 137."""
    path = tmp_path / "a.png"
    Image.new("L", (4, 4), 64).convert(mode).save(path)
    _with_chunk(path, b"gAMA", struct.pack(">I", 100_000))
    assert load_image(path) == pytest.approx(np.full((4, 4, 3), 137 / 255))
    Image.new("L", (4, 4), 64).convert(mode).save(path)
    _with_chunk(path, b"gAMA", struct.pack(">I", 45_455))
    assert load_image(path) == pytest.approx(np.full((4, 4, 3), 64 / 255))
    _with_chunk(path, b"sRGB", b"\0")
    assert load_image(path) == pytest.approx(np.full((4, 4, 3), 64 / 255))


def test_an_animation_is_its_first_picture_and_that_is_said(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    for name in ("a.gif", "a.webp", "a.png", "a.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.warns(UserWarning, match=r"a\.\w+: the first of its 3 pictures is taken"):
            assert load_image(tmp_path / name)[4, 4] == pytest.approx([1, 0, 0], abs=0.02)


def test_a_text_that_is_too_large_is_what_is_named(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 5_000_000, zip=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    with pytest.raises(PictureError, match=r"a\.png: a text or a profile in it is too large; save it anew without"):
        load_image(tmp_path / "a.png")


def test_avif_is_read_where_pillow_can(tmp_path):
    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    Image.new("RGB", (32, 24), (200, 100, 50)).save(tmp_path / "a.avif", quality=95)
    assert load_image(tmp_path / "a.avif")[12, 16] == pytest.approx(np.array([200, 100, 50]) / 255, abs=0.03)


def test_heic_is_read_with_pillow_heif_and_asks_for_it_without(tmp_path, monkeypatch):
    path = tmp_path / "a.heic"
    path.write_bytes(b"....ftypheic")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pillow_heif", None)
        with pytest.raises(PictureError, match=r"a\.heic: a HEIC picture needs pillow-heif: pip install pillow-heif"):
            load_image(path)
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(Image.new("RGB", (64, 48), (200, 100, 50))).save(path, quality=95)
    assert load_image(path).shape == (48, 64, 3)
    assert load_image(path)[24, 32] == pytest.approx(np.array([200, 100, 50]) / 255, abs=0.03)


@pytest.mark.slow
def test_a_large_jpeg_is_decoded_at_a_fraction(tmp_path):
    """The picture at the size that is asked for is the same one; and what it takes is what the header promised."""
    x, y = np.meshgrid(np.linspace(0, 9, 1603), np.linspace(0, 6, 1201))
    picture = np.stack([np.sin(x), np.cos(y), np.sin(x + y)], axis=-1) / 2 + 0.5
    save_image(tmp_path / "a.jpg", picture)
    whole, part = Source(tmp_path / "a.jpg"), Source(tmp_path / "a.jpg", enough=400)
    assert whole.shape == part.shape == (1201, 1603)
    assert part.nbytes == 4 * 401 * 301
    for source, enough in ((whole, None), (part, 400)):
        assert decoding(tmp_path / "a.jpg", enough) == ((1201, 1603), source.nbytes)
    assert part.at(200).shape == whole.at(200).shape == (150, 200, 3)
    assert part.at(200) == pytest.approx(whole.at(200), abs=0.02)
    assert part.at(None).shape == (1201, 1603, 3)  # not asked for, but right
    assert Source(tmp_path / "a.jpg", enough=802).nbytes == whole.nbytes
    save_image(tmp_path / "long.jpg", picture[:70])
    assert Source(tmp_path / "long.jpg", enough=50).nbytes == 4 * 70 * 1603  # its short side has little to lose


def test_a_pipe_is_read_once(tmp_path):
    save_image(tmp_path / "a.png", RGB / 255)
    code = "import nsnumpy as ns, sys; print(ns.load_image(sys.argv[1]).sum())"
    expected = load_image(tmp_path / "a.png").sum()
    with (tmp_path / "a.png").open("rb") as file:
        done = subprocess.run([sys.executable, "-c", code, "-"], stdin=file, capture_output=True, text=True)
    assert float(done.stdout) == pytest.approx(expected)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        process = subprocess.Popen([sys.executable, "-c", code, tmp_path / "pipe"], stdout=subprocess.PIPE, text=True)
        (tmp_path / "pipe").write_bytes((tmp_path / "a.png").read_bytes())
        assert float(process.communicate(timeout=60)[0]) == pytest.approx(expected)


def _bomb(tmp_path, monkeypatch, suffix):
    save_image(tmp_path / f"a{suffix}", FLOAT)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", RGB.shape[0] * RGB.shape[1] // 2 - 1)
    return tmp_path / f"a{suffix}"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_who_names_a_size_lifts_the_limit_on_pixels(tmp_path, monkeypatch, suffix):
    path = _bomb(tmp_path, monkeypatch, suffix)
    with pytest.raises(PictureError, match=r"a\.\w+: too many pixels, 30 x 20 pixels; name the size to take it at"):
        load_image(path)
    assert load_image(path, 30).shape == RGB.shape
    assert load_image(path, 15).shape == (10, 15, 3)
    assert fit_image(path, (8, 8)).shape == (8, 8, 3)
    assert Source(path, math.inf).at(None).shape == RGB.shape
    assert decoding(path)[0] == (20, 30)  # a header costs nothing
    assert Image.MAX_IMAGE_PIXELS == 299


def test_what_memory_has_no_room_for_is_not_decoded(tmp_path, monkeypatch):
    path = _bomb(tmp_path, monkeypatch, ".png")
    monkeypatch.setattr("nsnumpy.files.decode.available_bytes", lambda: 1000)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(
        PictureError, match=r"a.png: 30 x 20 pixels take about 0.00 GB of memory to decode, and 0.00 GB"
    ):
        load_image(path, 15)


def test_the_settings_of_a_large_result_are_read_without_its_pixels(tmp_path, monkeypatch):
    save_image(tmp_path / "a.png", FLOAT, {"seed": 1})
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    assert read_settings(tmp_path / "a.png") == {"seed": 1}


@pytest.mark.parametrize("big", [False, True])
def test_tiled_and_big_tiffs_of_16_bits_are_read(tmp_path, monkeypatch, big):
    monkeypatch.setattr("nsnumpy.files.rows.TILED", 1)
    with (tmp_path / "a.tif").open("wb") as file:
        write_tiff(file, FLOAT, 16, limit=0 if big else 1 << 32)
    assert load_image(tmp_path / "a.tif") == pytest.approx(FLOAT, abs=1e-6)
    assert decoding(tmp_path / "a.tif")[0] == (20, 30)
