"""Crops of one image: the random crop of training, the center crop of evaluation.

All resizing is bicubic and clipped to [0, 1]. The reference never antialiases: if an image shrinks
by a factor of three, most of its pixels do not contribute to the result, and fine patterns become
coarse. With `antialias`, a window that is more than twice as high or wide as the result is resized
with antialiasing, like Pillow's BICUBIC. Smaller windows are resized without it.
"""

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
_MOST_SHRUNK = 2  # largest factor without antialiasing, if it is enabled


def center_crop(
    image, size: int, proportion: float = CROP_PROPORTION, antialias: bool = False
) -> tf.Tensor:
    """Cuts the central square out of an image and resizes it: the evaluation crop.

    The square's side is `proportion` of the shorter side, rounded half to even. A square that
    cannot be centered exactly is half a pixel further down and right. Without `antialias` this is
    the reference's `center_crop` at aspect ratio 1.

    Args:
        image: (H, W, C).
        size: Side S of the result in pixels, at least 1.
        proportion: Share of the shorter side that is kept, in (0, 1].
        antialias: Whether a square of a side above 2 S is resized with antialiasing.
    """
    size = integer("size", size, minimum=1)
    if not 0 < proportion <= 1:
        raise ValueError(f"`proportion` must be in (0, 1]. Received: proportion={proportion}")
    image = convertible(image, "image", ranks=(3,))
    height, width = tf.unstack(tf.shape(image)[:2])
    shorter = tf.cast(tf.minimum(height, width), tf.float32)
    side = tf.maximum(tf.cast(tf.math.rint(proportion * shorter), tf.int32), 1)
    top, left = (height - side + 1) // 2, (width - side + 1) // 2
    return _resized(image[top : top + side, left : left + side], size, antialias)


def evaluation_image(image, size: int, antialias: bool = False) -> tf.Tensor:
    """Prepares one image (H, W, C) for evaluation: (`size`, `size`, C), `size` at least 1.

    Above 32 pixels this is `center_crop` with proportion 0.875. At 32 pixels or fewer the whole
    image is kept, as in the reference; an image of another size is resized to `size` x `size`,
    which the reference omits. `antialias` is as for `center_crop`.
    """
    size = integer("size", size, minimum=1)
    if size > SMALL_IMAGE:
        return center_crop(image, size, antialias=antialias)
    return _resized(convertible(image, "image", ranks=(3,)), size, antialias)


def random_crop(
    image,
    size: int,
    area_range: Sequence[float] = (0.08, 1.0),
    aspect_range: Sequence[float] = (3 / 4, 4 / 3),
    seed=None,
    antialias: bool = False,
) -> tf.Tensor:
    """Cuts a random box out of an image and resizes it to a square.

    The box follows TensorFlow's `sample_distorted_bounding_box` over the whole image with at least
    0.1 of it covered and 100 attempts, as in the reference. So no box is smaller than a tenth of
    the image, whatever the lower end of `area_range`; and boxes that do not fit are rejected, so
    large areas are rarer than under U(`area_range`).

    If the image is much wider or higher than `aspect_range` allows, no box has the area and all
    attempts fail. The box then has the full shorter side and the allowed aspect ratio nearest to
    the image's, at a uniformly drawn position along the longer side. (The reference uses the whole
    image, so the same crop each time; torchvision's `RandomResizedCrop` uses this box at the
    center.) If all attempts fail at an allowed aspect ratio, the whole image is used.

    Args:
        image: (H, W, C).
        size: Side S of the result in pixels, at least 1.
        area_range: Smallest and largest share of the image's area, in (0, 1]; the largest at least
            0.1.
        aspect_range: Smallest and largest width / height of the box in pixels, positive.
        seed: None, or two integers.
        antialias: Whether a box with a side above 2 S is resized with antialiasing.
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
    return _resized(tf.slice(image, begin, extent), size, antialias)


def _random_window(shape, area_range, aspect_range, seed):
    """Returns the box of `random_crop` in an image of `shape` (H, W, C): its begin and its size.

    Only the shape is needed, so that a window can be drawn before the pixels are decoded.
    """
    seed = checked_seed(seed)
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed=seed,
        min_object_covered=_LEAST_COVERED,
        aspect_ratio_range=aspect_range,
        area_range=area_range,
        max_attempts=100,
    )
    known = tf.get_static_value(shape)
    if known is not None and aspect_range[0] <= known[1] / known[0] <= aspect_range[1]:
        return begin, extent
    # Sampling that fails returns the whole image, (H, W, -1). Few operations, because small images
    # are cropped in 50 microseconds.
    whole = tf.reduce_sum(shape - extent) == shape[2] + 1
    return tf.cond(
        whole,
        lambda: _window_without_sampling(shape, aspect_range, seed),
        lambda: (begin, extent),
    )


def _window_without_sampling(shape, aspect_range, seed):
    """Returns the whole image if sampling could return it, else a box of the full shorter side."""
    height, width = tf.unstack(shape[:2])
    lowest, highest = aspect_range
    sampled = (width >= _rounded(height, lowest)) & (width <= _rounded(height, highest))
    sides = tf.stack([_rounded(width, 1 / lowest), _rounded(height, highest)])
    sides = tf.where(sampled, shape[:2], tf.clip_by_value(sides, 1, shape[:2]))
    # A separate seed: the sampling has drawn from the other one.
    place = tf.random.stateless_uniform((2,), tf.random.fold_in(seed, tf.constant(1, seed.dtype)))
    free = shape[:2] - sides
    begin = tf.minimum(tf.cast(place * tf.cast(free + 1, tf.float32), tf.int32), free)
    return tf.concat([begin, [0]], 0), tf.concat([sides, [-1]], 0)


def _rounded(side, factor):
    """Returns `side` * `factor` in whole pixels, rounded half to even like the sampling."""
    return tf.cast(tf.math.rint(tf.cast(side, tf.float32) * factor), tf.int32)


def _resized(window, size, antialias):
    """Cuts a window out of an image; returns it as (`size`, `size`, C) float32 in [0, 1]."""
    # Cut first: converting the whole of a large photograph to float costs more than the crop.
    window = tf.image.convert_image_dtype(window, tf.float32)

    def resize(antialias):
        method = tf.image.ResizeMethod.BICUBIC
        return tf.image.resize(window, (size, size), method=method, antialias=antialias)

    if antialias:
        shrunk = tf.reduce_any(tf.shape(window)[:2] > _MOST_SHRUNK * size)
        resized = tf.cond(shrunk, lambda: resize(True), lambda: resize(False))
    else:
        resized = resize(False)
    return tf.clip_by_value(resized, 0.0, 1.0)
