"""What PNG and TIFF files say of themselves that Pillow does not tell."""

import io
import struct
import warnings

import pytest
from PIL import Image, PngImagePlugin
from test_images import FLOAT, RGB, _profile_with_red_and_blue_exchanged, _with_chunk

from nsnumpy import PictureError, load_image
from nsnumpy.files.chunks import chunks, coding, has_late_metadata, unread_tiff


def test_the_chunks_of_a_png_and_what_stands_behind_its_pixels(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "b")
    early, late = tmp_path / "early.png", tmp_path / "late.png"
    Image.fromarray(RGB).save(early, pnginfo=info)
    text, png = early.read_bytes()[33:48], early.read_bytes()  # 8 + 25 bytes stand before it
    late.write_bytes(png[:33] + png[48:-12] + text + png[-12:])
    assert not has_late_metadata(early)
    assert has_late_metadata(late)
    with Image.open(late) as image:
        image.load()
        assert image.text == {"a": "b"}
    with early.open("rb") as file:
        assert [kind for kind, _ in chunks(file)] == [b"IHDR", b"tEXt", b"IDAT", b"IEND"]
        file.seek(33)
        assert coding(file) is None
        assert file.tell() == 33


@pytest.mark.parametrize("data", [b"", b"hello", b"II*\0", b"II*\0" + bytes(20), b"II+\0" + b"\xff" * 40])
def test_of_what_is_no_tiff_nothing_is_said(data):
    assert unread_tiff(io.BytesIO(data)) == ""


def _tiff(bits, form, values):
    """A TIFF of one RGB pixel, as TIFF 6.0 says, with the sample format (tag 339) that is given."""
    tags = [(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 3, 158), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 170)]
    tags += [(277, 3, 1, 3), (278, 3, 1, 1), (279, 4, 1, len(values)), (339, 3, 3, 164)]
    entries = b"".join(struct.pack("<2H2I", *tag) for tag in tags)
    assert 8 + 2 + len(entries) + 4 == 134
    return (
        b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4 + 24)
        + struct.pack("<6H", *[bits] * 3, *[form] * 3) + values
    )  # fmt: skip


def test_what_is_not_read_of_a_tiff_is_said(tmp_path):
    """Float colours of a TIFF are light without an upper end, as a rule, and not what a screen shows."""
    for name, bits, form, said in (("f", 32, 3, "3 float values of 32 bits"), ("i", 32, 1, "3 values of 32 bits")):
        (tmp_path / f"{name}.tif").write_bytes(_tiff(bits, form, bytes(12)))
        with pytest.raises(PictureError) as raised:
            load_image(tmp_path / f"{name}.tif")
        assert (
            str(raised.value)
            == f"{tmp_path}/{name}.tif: a TIFF of {said} a pixel, which is not read; save it with 8 or 16 bits a value"
        )
    (tmp_path / "ok.tif").write_bytes(_tiff(16, 1, struct.pack("<3H", 65535, 0, 257 * 100)))
    assert load_image(tmp_path / "ok.tif")[0, 0] == pytest.approx([1, 0, 100 / 255])


def test_the_colours_of_a_png_by_numbers(tmp_path):
    """Its cICP chunk: 1, 13 is sRGB, whatever else is said; others are not converted, which is said once."""
    path = tmp_path / "a.png"

    def save(*code, **options):
        Image.fromarray(RGB).save(path, **options)
        _with_chunk(path, b"cICP", bytes([*code, 0, 1]))

    swapped = _profile_with_red_and_blue_exchanged()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(1, 13)
        _with_chunk(path, b"gAMA", struct.pack(">I", 100_000))
        assert load_image(path) == pytest.approx(FLOAT, abs=1e-6)
        save(1, 13, icc_profile=swapped)
        assert load_image(path) == pytest.approx(FLOAT, abs=1e-6)
    save(12, 13)
    with pytest.warns(
        UserWarning, match="a.png: its colours are those of cICP 12, 13, .* not converted; taken as sRGB"
    ):
        assert load_image(path) == pytest.approx(FLOAT, abs=1e-6)
    save(9, 16, icc_profile=swapped)
    with pytest.warns(UserWarning, match="cICP 9, 16, .* not converted; its colour profile is taken"):
        assert load_image(path) == pytest.approx(FLOAT[..., ::-1], abs=4 / 255)
