"""Figures and thumbnails for a page: inline SVG, and one picture of all thumbnails."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from collections.abc import Callable, Container
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from simclrv2_tf.channels import RGB
from simclrv2_tf.kept_results import kept_results
from simclrv2_tf.report import style

# Colors of figures on a white page, and their equivalents on a page that may be dark.
_WHITE = "#ffffff"
_COLORS = {"#000000": "currentColor", "#dddddd": "var(--rule)", _WHITE: "var(--paper)"}
_COLUMNS = 40  # thumbnails per row of a sprite
_QUALITIES = (80, 60, 40, 20)


@kept_results(most=64)
def inline_svg(draw: Callable, values: Any, prefix: str, alt: str) -> Markup:
    """Returns a matplotlib figure as an SVG element with the page's colors and fonts.

    Args:
        draw: A function of a module, which draws `values` and returns the figure.
        values: A JSON value.
        prefix: Prefix of its ids, unique on the page.
        alt: Description of the figure.
    """
    figure = draw(values)
    text = style.rendered(figure, ".svg", salt=prefix, transparent=True).decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.S)
    used = {*re.findall(r"url\(#([^)]+)\)", text), *re.findall(r'href="#([^"]+)"', text)}
    text = re.sub(r"<[^<>]+>", lambda tag: _shortened(tag[0], prefix, used), text)
    text = re.sub(r">\s+<", "><", text)
    box = re.search(r'viewBox="[^"]+"', text)[0]
    opening = (
        f'<svg class="drawn" role="img" aria-label="{escape(alt)}" {box} '
        'fill="currentColor" stroke-linejoin="round" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return Markup(opening + text[text.index(">") + 1 :])


def _shortened(tag: str, prefix: str, used: Container[str]) -> str:
    """Adapts a tag to the page: ids, colors, and no more digits than are visible.

    Args:
        tag: The tag.
        prefix: New prefix of its ids.
        used: The ids that are referenced; others are removed.
    """
    tag = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in used else "", tag)
    tag = re.sub(r'( id="|url\(#|href="#)', lambda m: f"{m[0]}{prefix}-", tag)
    if "base64" in tag:
        return tag
    for color, ours in _COLORS.items():
        # White text is on a color, which the page does not change.
        if not (color == _WHITE and tag.startswith("<text")):
            tag = tag.replace(color, ours)
    tag = re.sub(r"font: (?:(\d+) )?([\d.]+px)[^;\"]*", _font, tag)
    tag = re.sub(r"\s+", " ", tag)
    return re.sub(r"-?\d+\.\d{2,}", lambda m: f"{float(m[0]):.1f}".removesuffix(".0"), tag)


def _font(found: re.Match) -> str:
    weight, size = found.groups()
    return f"font-size: {size}" + (f"; font-weight: {weight}" if weight else "")


@dataclasses.dataclass(frozen=True)
class Sprite:
    """Thumbnails of equal size, row by row in one picture.

    Attributes:
        source: The picture as a data URI.
        side: Side of a thumbnail, in pixels.
        columns: Thumbnails per row.
        width, height: Size of the picture, in pixels.
    """

    source: str
    side: int
    columns: int
    width: int
    height: int

    def box(self, index: int) -> str:
        """Returns the `viewBox` that shows one thumbnail."""
        row, column = divmod(index, self.columns)
        return f"{column * self.side} {row * self.side} {self.side} {self.side}"


def thumbnails(images: np.ndarray) -> np.ndarray:
    """Converts images (n, S, S, C) in [0, 1] to uint8: gray for one or two channels, else RGB."""
    shown = images[..., : RGB if images.shape[-1] >= RGB else 1]
    return np.round(255 * np.clip(shown, 0, 1)).astype(np.uint8)


@kept_results(most=4)
def sprite(thumbnails: np.ndarray, most_bytes: int) -> Sprite:
    """Joins thumbnails (n, S, S, 1 or 3) uint8 into one WebP picture of at most about `most_bytes`.

    Uses the best of several qualities that fits, or the lowest.
    """
    columns = min(_COLUMNS, len(thumbnails))
    pixels = joined(thumbnails, columns)
    height, width = pixels.shape[:2]
    source = sheet(pixels, most_bytes)
    return Sprite(source, thumbnails.shape[1], columns, width, height)


def joined(thumbnails: np.ndarray, columns: int) -> np.ndarray:
    """Joins thumbnails (n, S, S, 1 or 3) uint8 row by row; missing ones are black."""
    count, side = thumbnails.shape[:2]
    rows = -(-count // columns)
    pixels = np.zeros((rows * columns, *thumbnails.shape[1:]), np.uint8)
    pixels[:count] = thumbnails
    pixels = pixels.reshape(rows, columns, side, side, -1).swapaxes(1, 2)
    return pixels.reshape(rows * side, columns * side, -1)


def sheet(pixels: np.ndarray, most_bytes: int) -> str:
    """Returns the data URI of a WebP picture of pixels (H, W, 1 or 3) uint8, about `most_bytes`."""
    return data_uri(_webp(image(pixels), most_bytes), "webp")


def image(pixels: np.ndarray):
    """Returns the Pillow image of pixels (H, W, 1 or 3) uint8."""
    from PIL import Image

    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def data_uri(content: bytes, kind: str) -> str:
    """Returns a picture of a type such as "png" as the source of an element."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def picture(content: bytes, most_bytes: int) -> str | None:
    """Returns a PNG file as a data URI: unchanged if it is small enough, else with lossy
    compression.

    None for a damaged file.
    """
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(content), formats=("PNG",)).convert("RGB")
    except (OSError, SyntaxError, ValueError):  # Pillow's exceptions depend on the damage
        return None
    if len(content) <= most_bytes:
        return data_uri(content, "png")
    return data_uri(_webp(image, most_bytes), "webp")


def _webp(image, most_bytes: int) -> bytes:
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=quality)
        if buffer.tell() <= most_bytes:
            break
    return buffer.getvalue()
