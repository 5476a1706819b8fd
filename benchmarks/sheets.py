"""Sheets of labelled pictures, for the benchmarks."""

from __future__ import annotations

from typing import Any

import numpy as np
from measures import Pair
from PIL import Image, ImageDraw, ImageFont

THUMBNAIL, SIDE_BY_SIDE = 256, 384  # the longest side that a picture is shown with
GAP, TEXT, LINE = 12, 14, 18

Labelled = tuple[np.ndarray | None, str]
"""A picture, and what is written below: lines."""


def sheet(rows: list[list[Labelled]], side: int) -> np.ndarray:
    """Pictures in a grid, each with its label below, and none with a longer side than `side`."""
    font = ImageFont.load_default(TEXT)
    cells = [
        [(_thumbnail(image, side), [_cut(line, font, side) for line in label.split("\n")]) for image, label in row]
        for row in rows
    ]
    widths = [
        max(max(image.width, *(int(font.getlength(line)) + 1 for line in lines)) for image, lines in column)
        for column in zip(*cells, strict=False)
    ]
    heights = [max(image.height for image, _ in row) + LINE * max(len(lines) for _, lines in row) for row in cells]
    size = (sum(widths) + GAP * (len(widths) + 1), sum(heights) + GAP * (len(heights) + 1))
    made = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(made)
    for i, row in enumerate(cells):
        for j, (image, lines) in enumerate(row):
            left, top = GAP + sum(widths[:j]) + GAP * j, GAP + sum(heights[:i]) + GAP * i
            made.paste(image, (left, top))
            for k, line in enumerate(lines):
                draw.text((left, top + image.height + 2 + LINE * k), line, fill="black", font=font)
    return np.asarray(made, dtype=np.float32) / 255


def contact_sheet(
    name: str, results: dict[Pair, Labelled], p: dict[str, np.ndarray], a: dict[str, np.ndarray]
) -> np.ndarray:
    """A network's results: the photographs down the left margin, the paintings along the top."""
    rows = [[(None, name), *((a[painting], painting) for painting in a)]]
    for photograph in p:
        row = [results.get((photograph, painting), (None, "")) for painting in a]
        rows.append([(p[photograph], photograph), *row])
    return sheet(rows, THUMBNAIL)


def side_by_side(
    pairs: list[Pair],
    results: dict[str, dict[Pair, Labelled]],
    p: dict[str, np.ndarray],
    a: dict[str, np.ndarray],
) -> np.ndarray:
    """A row per pair: photograph, painting, each network's result."""
    rows: list[list[Labelled]] = []
    for photograph, painting in pairs:
        rows.append([(p[photograph], photograph), (a[painting], painting)])
        for name, of_pairs in results.items():
            image, label = of_pairs[photograph, painting]
            rows[-1].append((image, f"{name}\n{label}"))
    return sheet(rows, SIDE_BY_SIDE)


def _thumbnail(image: np.ndarray | None, side: int) -> Image.Image:
    if image is None:
        return Image.new("RGB", (1, 1), "white")
    thumbnail = Image.fromarray(np.rint(255 * image).astype(np.uint8))
    thumbnail.thumbnail((side, side), Image.Resampling.LANCZOS)
    return thumbnail


def _cut(text: str, font: Any, length: int) -> str:
    if font.getlength(text) <= length:
        return text
    while text and font.getlength(f"{text}...") > length:
        text = text[:-1]
    return f"{text}..."
