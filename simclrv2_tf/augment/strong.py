"""Strong views of FixMatch: RandAugment with random magnitudes, then Cutout.

Operations take a batch (B, H, W, C) in [0, 1] with an amount for each image. They match Pillow on 8
bits, to within rounding.
"""

from __future__ import annotations

import math

from etils import epy

from simclrv2_tf.augment.arguments import on_batch
from simclrv2_tf.augment.draws import make_draws
from simclrv2_tf.channels import RGB

with epy.lazy_imports():
    import tensorflow as tf

OPERATIONS_A_VIEW = 2
LARGEST_CUTOUT = 0.5  # of the image's side
_GRAY = 0.5
_LEVELS = 256


def strong_view(images, seed=None, shard: tuple[int, int] = (0, 1)) -> tf.Tensor:
    """Makes the strong views of FixMatch from images that are already cropped and flipped.

    Applies two operations of `OPERATIONS`, drawn with replacement for each image, each with an
    amount drawn uniformly from its range (arXiv 2001.07685, table 12). Then applies Cutout: a gray
    square around a uniformly drawn pixel, its side uniform in [0, 0.5] of the image's, clipped at
    the image's edge. Geometric operations fill with gray.

    Args:
        images: An image or a batch, of any number of channels. The operation `color` changes only
            RGB images.
        seed: None, or two integers.
        shard: (index, count) of this part of a batch; needs a seed above one part.
    """
    draws = make_draws(seed, shard)
    return on_batch(images, "images", lambda batch: _strong(batch, draws))


def _strong(batch, draws):
    which_draws, amount_draws, cutout_draws = draws.split(3)
    which = tf.cast(which_draws.uniform(batch, OPERATIONS_A_VIEW, high=len(OPERATIONS)), tf.int32)
    which = tf.minimum(which, len(OPERATIONS) - 1)  # rounding of a draw next to 1
    amounts = amount_draws.uniform(batch, OPERATIONS_A_VIEW)
    for turn in range(OPERATIONS_A_VIEW):
        batch = _by_operation(batch, which[:, turn], amounts[:, turn])
    return cutout(batch, *tf.unstack(cutout_draws.uniform(batch, 3), axis=1))


def _by_operation(batch, which, shares):
    """Applies one operation to each image: `which` (B,), at a share (B,) of its range."""
    groups = tf.dynamic_partition(tf.range(tf.shape(batch)[0]), which, len(OPERATIONS))
    done = []
    for rows, (function, low, high) in zip(groups, OPERATIONS.values(), strict=True):
        amount = low + (high - low) * tf.gather(shares, rows)
        changed = function(tf.gather(batch, rows), amount[:, None, None, None])
        done.append(tf.clip_by_value(changed, 0.0, 1.0))
    return tf.ensure_shape(tf.dynamic_stitch(groups, done), batch.shape)


def cutout(batch, side, row, column):
    """Grays out a square of each image.

    Args:
        batch: (B, H, W, C).
        side: (B,) in [0, 1]: the square's side as a share of the largest, half of the image's.
        row, column: (B,) in [0, 1): the position of its center.
    """
    height, width = batch.shape[1:3]
    half = LARGEST_CUTOUT * side / 2

    def within(center, size):
        pixels = (tf.range(size, dtype=tf.float32) + 0.5) / size
        return tf.abs(pixels - center[:, None]) < half[:, None]  # (B, size)

    inside = within(row, height)[:, :, None] & within(column, width)[:, None, :]
    return tf.where(inside[..., None], _GRAY, batch)


def _identity(batch, amount):
    del amount
    return batch


def _autocontrast(batch, amount):
    """Stretches each channel of an image to [0, 1]; leaves constant channels unchanged."""
    del amount
    low = tf.reduce_min(batch, (1, 2), keepdims=True)
    high = tf.reduce_max(batch, (1, 2), keepdims=True)
    return tf.where(high > low, tf.math.divide_no_nan(batch - low, high - low), batch)


def _blended(other, batch, amount):
    """Interpolates: `other` at an amount of 0, the image at 1."""
    return other + amount * (batch - other)


def _brightness(batch, amount):
    return batch * amount


def _color(batch, amount):
    return _blended(_luma(batch), batch, amount) if batch.shape[-1] == RGB else batch


def _contrast(batch, amount):
    return _blended(tf.reduce_mean(_luma(batch), (1, 2), keepdims=True), batch, amount)


def _luma(batch):
    """Returns (B, H, W, 1): the luma of RGB images, the mean of other channels."""
    if batch.shape[-1] != RGB:
        return tf.reduce_mean(batch, -1, keepdims=True)
    return tf.tensordot(batch, tf.constant([[0.299], [0.587], [0.114]]), 1)


def _equalize(batch, amount):
    """Spreads the values of each channel of an image evenly, as `PIL.ImageOps.equalize`."""
    del amount
    shape = tf.shape(batch)
    count, pixels = shape[0] * shape[3], shape[1] * shape[2]
    planes = tf.reshape(tf.transpose(batch, (0, 3, 1, 2)), (count, pixels))
    values = tf.cast(tf.round(planes * (_LEVELS - 1)), tf.int32)
    counts = tf.math.bincount(values, minlength=_LEVELS, maxlength=_LEVELS, axis=-1, dtype=tf.int32)
    counts = tf.reshape(counts, (count, _LEVELS))  # also if there are no planes
    present = tf.range(_LEVELS) * tf.cast(counts > 0, tf.int32)
    of_brightest = tf.gather(counts, tf.reduce_max(present, -1), batch_dims=1)
    step = (pixels - of_brightest)[:, None] // (_LEVELS - 1)
    before = tf.cumsum(counts, -1, exclusive=True)
    table = tf.minimum((before + step // 2) // tf.maximum(step, 1), _LEVELS - 1)
    spread = tf.cast(tf.gather(table, values, batch_dims=1), tf.float32) / (_LEVELS - 1)
    planes = tf.where(step > 0, spread, planes)
    planes = tf.reshape(planes, (shape[0], shape[3], shape[1], shape[2]))
    return tf.ensure_shape(tf.transpose(planes, (0, 2, 3, 1)), batch.shape)


def _posterize(batch, amount):
    """Keeps the upper bits of each 8-bit value: `amount` of them, rounded, 4 to 8."""
    lost = tf.pow(2.0, 8.0 - tf.floor(amount))
    return tf.floor(tf.round(batch * (_LEVELS - 1)) / lost) * lost / (_LEVELS - 1)


def _solarize(batch, amount):
    return tf.where(batch < amount, batch, 1.0 - batch)


def _sharpness(batch, amount):
    """Blends with the image smoothed by a kernel of ones with 5 in its center; keeps the edges."""
    height, width = batch.shape[1:3]
    # Not a convolution, which fails on an empty batch.
    smooth = 4.0 * batch[:, 1:-1, 1:-1]
    for row in range(3):
        for column in range(3):
            smooth += batch[:, row : height - 2 + row, column : width - 2 + column]
    smooth /= 13.0
    paddings = [[0, 0], [1, 1], [1, 1], [0, 0]]
    inner = tf.pad(tf.ones_like(smooth, tf.bool), paddings)
    return _blended(tf.where(inner, tf.pad(smooth, paddings), batch), batch, amount)


def _affine(batch, rows):
    """Samples each image at `rows` (B, 6) times (x, y, 1), around the image's center."""
    height, width = batch.shape[1:3]
    a, b, c, d, e, f = tf.unstack(rows, axis=1)
    x, y = (width - 1) / 2, (height - 1) / 2
    zeros = tf.zeros_like(a)
    transforms = (a, b, c + x - a * x - b * y, d, e, f + y - d * x - e * y, zeros, zeros)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=batch,
        transforms=tf.stack(transforms, 1),
        output_shape=[height, width],
        fill_value=_GRAY,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


def _geometric(rows):
    """Makes an operation from the coefficients of `_affine` for amounts (B,) and sides (H, W)."""

    def operation(batch, amount):
        flat = amount[:, 0, 0, 0]
        ones, zeros = tf.ones_like(flat), tf.zeros_like(flat)
        found = rows(flat, ones, zeros, batch.shape[1:3])
        return tf.ensure_shape(_affine(batch, tf.stack(found, 1)), batch.shape)

    return operation


_rotate = _geometric(
    lambda x, one, zero, sides: (tf.cos(x), -tf.sin(x), zero, tf.sin(x), tf.cos(x), zero)
)
_shear_x = _geometric(lambda x, one, zero, sides: (one, x, zero, zero, one, zero))
_shear_y = _geometric(lambda x, one, zero, sides: (one, zero, zero, x, one, zero))
_translate_x = _geometric(lambda x, one, zero, sides: (one, zero, x * sides[1], zero, one, zero))
_translate_y = _geometric(lambda x, one, zero, sides: (one, zero, zero, zero, one, x * sides[0]))

# Each with the range of its amount: arXiv 2001.07685, table 12; angles in radians.
OPERATIONS = {
    "autocontrast": (_autocontrast, 0.0, 0.0),
    "brightness": (_brightness, 0.05, 0.95),
    "color": (_color, 0.05, 0.95),
    "contrast": (_contrast, 0.05, 0.95),
    "equalize": (_equalize, 0.0, 0.0),
    "identity": (_identity, 0.0, 0.0),
    "posterize": (_posterize, 4.0, 8.0),
    "rotate": (_rotate, -math.radians(30), math.radians(30)),
    "sharpness": (_sharpness, 0.05, 0.95),
    "shear_x": (_shear_x, -0.3, 0.3),
    "shear_y": (_shear_y, -0.3, 0.3),
    "solarize": (_solarize, 0.0, 1.0),
    "translate_x": (_translate_x, -0.3, 0.3),
    "translate_y": (_translate_y, -0.3, 0.3),
}
