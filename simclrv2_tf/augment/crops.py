"""Crops of one image: the random crop of training, the center crop of evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from etils import epy

from simclrv2_tf.augment.arguments import convertible, integer, interval
from simclrv2_tf.augment.draws import checked_seed

with epy.lazy_imports():
    import tensorflow as tf

CROP_PROPORTION = 0.875
SMALL_IMAGE = 32  # up to this size the reference evaluates on whole images

_LEAST_COVERED = 0.1  # share of the image in a random crop


def center_crop(image, size: int, proportion: float = CROP_PROPORTION) -> tf.Tensor:
    """Cuts the central square out of an image and resizes it: the evaluation crop.

    The square's side is `proportion` of the shorter side, rounded half to even; where it cannot be
    centered exactly it lies half a pixel down and right. Bicubic resizing without antialiasing,
    clipped to [0, 1]. This is the reference's `center_crop` at aspect ratio 1.

    Args:
        image: (H, W, 3).
        size: Side S of the result in pixels, at least 1.
        proportion: Share of the shorter side that is kept, in (0, 1].
    """
    size = integer("size", size, minimum=1)
    if not 0 < proportion <= 1:
        raise ValueError(f"`proportion` must be in (0, 1]. Received: proportion={proportion}")
    image = convertible(image, "image", ranks=(3,))
    height, width = tf.unstack(tf.shape(image)[:2])
    shorter = tf.cast(tf.minimum(height, width), tf.float32)
    side = tf.maximum(tf.cast(tf.math.rint(proportion * shorter), tf.int32), 1)
    top, left = (height - side + 1) // 2, (width - side + 1) // 2
    return _resized_window(image, (top, left), (side, side), size)


def evaluation_image(image, size: int) -> tf.Tensor:
    """Prepares one image (H, W, 3) for evaluation: (`size`, `size`, 3), `size` at least 1.

    Above 32 pixels this is `center_crop` with proportion 0.875. At 32 pixels or fewer the whole
    image is kept, as in the reference; an image of another size is resized to `size` x `size`
    (bicubic, clipped), which the reference omits.
    """
    size = integer("size", size, minimum=1)
    if size > SMALL_IMAGE:
        return center_crop(image, size)
    return _resize(convertible(image, "image", ranks=(3,)), size)


def random_crop(
    image,
    size: int,
    area_range: Sequence[float] = (0.08, 1.0),
    aspect_range: Sequence[float] = (3 / 4, 4 / 3),
    seed=None,
) -> tf.Tensor:
    """Cuts a random box out of an image and resizes it to a square.

    The box follows TensorFlow's `sample_distorted_bounding_box` over the whole image with at least
    0.1 of it covered and 100 attempts, as in the reference. So no box is smaller than a tenth of
    the image, whatever `area_range` begins with; and boxes that do not fit are rejected, so large
    areas are rarer than under U(`area_range`). When all attempts fail, the whole image is taken.
    Bicubic resizing without antialiasing, clipped to [0, 1].

    Args:
        image: (H, W, 3).
        size: Side S of the result in pixels, at least 1.
        area_range: Smallest and largest share of the image's area, in (0, 1]; the largest at least
            0.1.
        aspect_range: Smallest and largest width / height of the box in pixels, positive.
        seed: None, or two integers.
    """
    size = integer("size", size, minimum=1)
    area_range = interval("area_range", area_range, largest=1.0)
    if area_range[1] < _LEAST_COVERED:
        raise ValueError(
            f"`area_range` must reach {_LEAST_COVERED}, as no smaller box is ever accepted. "
            f"Received: area_range={area_range}"
        )
    aspect_range = interval("aspect_range", aspect_range, largest=math.inf)
    image = convertible(image, "image", ranks=(3,))
    begin, extent = _random_window(tf.shape(image), area_range, aspect_range, seed)
    return _resized_window(image, begin, extent, size)


def _random_window(shape, area_range, aspect_range, seed):
    """The box of `random_crop` in an image of `shape` (H, W, C): (top, left), (height, width)."""
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed=checked_seed(seed),
        min_object_covered=_LEAST_COVERED,
        aspect_ratio_range=aspect_range,
        area_range=area_range,
        max_attempts=100,
    )
    return begin[:2], extent[:2]


def _resized_window(image, begin, extent, size):
    """The window of an image from `begin` (top, left) on, of `extent` (height, width), resized."""
    # Cut first: converting the whole of a large photograph to float costs more than the crop.
    window = tf.slice(image, (*tf.unstack(begin), 0), (*tf.unstack(extent), 3))
    return _resize(window, size)


def _resize(image, size):
    def resize(pixels):
        return tf.image.resize(pixels, (size, size), method=tf.image.ResizeMethod.BICUBIC)

    if image.dtype.is_integer and size <= SMALL_IMAGE:
        # To a small image it is faster to resize integers, to a large one to convert them first.
        resized = tf.cast(resize(image), tf.float32) * (1.0 / image.dtype.max)
    else:
        resized = resize(tf.image.convert_image_dtype(image, tf.float32))
    return tf.clip_by_value(resized, 0.0, 1.0)
