"""Two SimCLR views of an image with Pillow: the peer of the input pipeline."""

from __future__ import annotations

import math
import random

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter


def random_resized_crop(image: Image.Image, size: int, rng: random.Random) -> Image.Image:
    """Crops a box of area U(0.08, 1), aspect 3/4..4/3 in log scale; resizes it, antialiased."""
    width, height = image.size
    box = (0, 0, width, height)
    for _ in range(10):
        area = width * height * rng.uniform(0.08, 1.0)
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.randint(0, width - w), rng.randint(0, height - h)
            box = (left, top, left + w, top + h)
            break
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)


def turn_hue(image: Image.Image, turns: float) -> Image.Image:
    """Adds `turns` of the circle to the hue."""
    hue, saturation, value = image.convert("HSV").split()
    hue = hue.point([(level + round(turns * 255)) % 256 for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def color_jitter(image: Image.Image, rng: random.Random) -> Image.Image:
    """Jitters brightness, contrast and saturation by 0.8, hue by 0.2, in random order."""
    factors = [rng.uniform(0.2, 1.8) for _ in range(3)]
    turns = rng.uniform(-0.2, 0.2)
    operations = [
        lambda x: ImageEnhance.Brightness(x).enhance(factors[0]),
        lambda x: ImageEnhance.Contrast(x).enhance(factors[1]),
        lambda x: ImageEnhance.Color(x).enhance(factors[2]),
        lambda x: turn_hue(x, turns),
    ]
    rng.shuffle(operations)
    for operation in operations:
        image = operation(image)
    return image


def view(image: Image.Image, size: int, rng: random.Random) -> np.ndarray:
    """Returns a view by crop, flip, color, grayscale and blur: (S, S, 3) float32 in [0, 1]."""
    image = random_resized_crop(image, size, rng)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.8:
        image = color_jitter(image, rng)
    if rng.random() < 0.2:
        image = image.convert("L").convert("RGB")
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.1, 2.0)))
    return np.asarray(image, np.float32) / 255


def two_views(images, size: int, rng: random.Random) -> tuple[np.ndarray, np.ndarray]:
    """Returns two batches of views (B, S, S, 3) of RGB images."""
    pairs = [(view(image, size, rng), view(image, size, rng)) for image in images]
    first, second = zip(*pairs, strict=True)
    return np.stack(first), np.stack(second)
