"""Sheets of labelled pictures, drawn with Pillow: text, pictures, and rows and columns of them.

Every part knows its size before it is drawn, and text is broken into lines to the width that it is given, so that no
label meets another one or leaves its place.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, FAINT, GOOD, BAD = (30, 30, 34), (110, 110, 118), (0, 105, 60), (185, 28, 28)
FRAME = (255, 226, 0)
PAPER = (255, 255, 255)
TITLE, HEADING, LABEL = 26, 17, 15  # sizes of text in pixels
LEAST, MOST = 160, 384  # long side of a picture as it is shown; others are enlarged or reduced
GAP, MARGIN = 10, 24

Color = tuple[int, int, int]
Region = tuple[int, int, int, int]
"""(top, left, height, width) of a part of a picture."""


@dataclass
class Sheet:
    """A sheet as it is drawn.

    Attributes
    ----------
    image : PIL.Image.Image
    texts : list of (text, (left, top, right, bottom))
        Every line that was written, and the pixels that it covers.
    """

    image: Image.Image
    texts: list[tuple[str, tuple[int, int, int, int]]] = field(default_factory=list)


class Part:
    """Something on a sheet, of a size that is known beforehand.

    Attributes
    ----------
    width, height : int, in pixels
    """

    width: int
    height: int

    def draw(self, sheet: Sheet, left: int, top: int) -> None:
        raise NotImplementedError


class Text(Part):
    """Lines of text, broken to fit `width`; a word that is longer is broken, too."""

    def __init__(self, text: str, width: int, size: int = LABEL, color: Color = INK) -> None:
        self.font = _font(size)
        self.color = color
        self.width = width
        self.lines = [line for part in text.split("\n") for line in _broken(part, self.font, width)]
        self.step = sum(self.font.getmetrics()) + 2
        self.height = self.step * len(self.lines)

    def draw(self, sheet: Sheet, left: int, top: int) -> None:
        draw = ImageDraw.Draw(sheet.image)
        for number, line in enumerate(self.lines):
            at = (left, top + number * self.step)
            draw.text(at, line, self.color, self.font)
            if line:
                box = draw.textbbox(at, line, self.font)
                sheet.texts.append((line, (int(box[0]), int(box[1]), -int(-box[2] // 1), -int(-box[3] // 1))))


class Shown(Part):
    """A picture, at the left of a place of at least its width.

    Parameters
    ----------
    picture : array ``(H, W, 3)``, uint8
    size : (width, height) that it is shown with
    frame : Region, or None
        A part of it to be framed.
    """

    def __init__(self, picture: np.ndarray, size: tuple[int, int], frame: Region | None = None) -> None:
        self.width, self.height = size
        shrinks = size[0] < picture.shape[1]
        how = Image.Resampling.LANCZOS if shrinks else Image.Resampling.NEAREST  # an enlarged pixel is seen as one
        self.picture = Image.fromarray(picture).resize(size, how)
        if frame:
            scale = size[0] / picture.shape[1]
            top, left, height, width = (round(scale * n) for n in frame)
            box = (left, top, min(left + width, size[0]) - 1, min(top + height, size[1]) - 1)
            ImageDraw.Draw(self.picture).rectangle(box, outline=FRAME, width=2)

    def draw(self, sheet: Sheet, left: int, top: int) -> None:
        sheet.image.paste(self.picture, (left, top))


class Scale(Part):
    """Colours from left to right ``(n, 3)``, uint8, and below them what stands at equal distances, ends included."""

    def __init__(self, colors: np.ndarray, ticks: Sequence[str], width: int) -> None:
        self.bar = Shown(colors[None], (width, 12))
        self.ticks = [Text(tick, width) for tick in ticks]
        self.width, self.height = width, self.bar.height + 4 + self.ticks[0].height

    def draw(self, sheet: Sheet, left: int, top: int) -> None:
        self.bar.draw(sheet, left, top)
        for n, tick in enumerate(self.ticks):
            t = n / (len(self.ticks) - 1)
            beside = self.width - tick.font.getlength(tick.lines[0])
            middle = self.width * t - (self.width - beside) / 2
            tick.draw(sheet, left + round(min(max(middle, 0), beside)), top + self.bar.height + 4)


class Blank(Part):
    """An empty place."""

    def __init__(self, width: int, height: int = 0) -> None:
        self.width, self.height = width, height

    def draw(self, sheet: Sheet, left: int, top: int) -> None:
        pass


class Column(Part):
    """Parts below each other."""

    def __init__(self, parts: Sequence[Part], gap: int = 4) -> None:
        self.parts, self.gap = parts, gap
        self.width = max((part.width for part in parts), default=0)
        self.height = sum(part.height for part in parts) + gap * max(0, len(parts) - 1)

    def draw(self, sheet: Sheet, left: int, top: int) -> None:
        for part in self.parts:
            part.draw(sheet, left, top)
            top += part.height + self.gap


class Row(Part):
    """Parts beside each other, their upper edges on one line."""

    def __init__(self, parts: Sequence[Part], gap: int = GAP) -> None:
        self.parts, self.gap = parts, gap
        self.width = sum(part.width for part in parts) + gap * max(0, len(parts) - 1)
        self.height = max((part.height for part in parts), default=0)

    def draw(self, sheet: Sheet, left: int, top: int) -> None:
        for part in self.parts:
            part.draw(sheet, left, top)
            left += part.width + self.gap


def headed(title: str, settings: str, pictures: Sequence[Part], width: int) -> Part:
    """The head of a sheet of this width: small pictures, and beside them its title and what it was made with."""
    beside = sum(picture.width + GAP for picture in pictures)
    words = Column([Text(title, width - beside, TITLE), Text(settings, width - beside, LABEL, FAINT)])
    return Row([*pictures, words])


def draw_sheet(part: Part) -> Sheet:
    """The sheet that holds this part and a margin."""
    sheet = Sheet(Image.new("RGB", (part.width + 2 * MARGIN, part.height + 2 * MARGIN), PAPER))
    part.draw(sheet, MARGIN, MARGIN)
    return sheet


def shown_size(shape: Sequence[int], least: int = LEAST, most: int = MOST) -> tuple[int, int]:
    """(width, height) with which a picture of shape (H, W, ...) is shown: as it is, or enlarged or reduced."""
    height, width = shape[:2]
    long = max(height, width)
    scale = -(-least // long) if long < least else min(1.0, most / long)
    return max(1, round(scale * width)), max(1, round(scale * height))


def most_detailed(picture: np.ndarray, side: int) -> Region:
    """The square window of a picture with most detail: the largest sum of differences between neighbouring pixels.

    Parameters
    ----------
    picture : array ``(H, W, 3)``, uint8
    side : int
        Of the window; no more than the picture's shorter one is taken.

    Returns
    -------
    top, left, height, width : ints
        The first such window, from the top and the left, where there are several.
    """
    light = picture.astype(np.int64).sum(axis=2)
    side = max(1, min(side, *light.shape))
    detail = np.zeros(light.shape, np.int64)
    detail[1:] += np.abs(np.diff(light, axis=0))
    detail[:, 1:] += np.abs(np.diff(light, axis=1))
    sums = np.pad(detail.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    windows = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(windows.argmax(), windows.shape)
    return int(top), int(left), side, side


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # as it is where a size is given
    return font


def _broken(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """`text` in lines of no more than `width` pixels, broken at spaces, and within words where it must be."""
    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines
