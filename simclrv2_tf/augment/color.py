"""Color jitter and grayscale of SimCLR and SimCLRv2."""

from __future__ import annotations

import math
from typing import NamedTuple

from etils import epy

from simclrv2_tf.augment.arguments import on_batch
from simclrv2_tf.augment.draws import apply_where, make_draws
from simclrv2_tf.channels import RGB

with epy.lazy_imports():
    import tensorflow as tf

_JITTER_PROBABILITY = 0.8
GRAYSCALE_PROBABILITY = 0.2
_LUMA = (0.2989, 0.5870, 0.1140)


def random_color(
    image,
    strength: float,
    version: str = "v2",
    seed=None,
    grayscale_probability: float = GRAYSCALE_PROBABILITY,
) -> tf.Tensor:
    """Jitters the color of each image with probability 0.8, then makes some of them gray.

    Jitter is brightness, contrast, saturation and hue, each once, in a random order, each clipped
    to [0, 1]. With d = 0.8 * `strength`: brightness multiplies by U(max(0, 1 - d), 1 + d)
    in version "v2" and adds U(-d, d) in "v1"; contrast and saturation have a factor of
    U(max(0, 1 - d), 1 + d); hue turns by U(-0.2, 0.2) * `strength` of a full turn. The operations
    match `tf.image.adjust_*`. For `strength` of 1.25 and more the lower factor is 0; the reference
    has no valid contrast range there. Zero `strength` turns jitter and grayscale off, as in the
    reference.

    Images that are not RGB have no hue and saturation and never become gray: jitter then changes
    brightness and contrast, in a random order. All channels of an image share their amounts.

    Args:
        image: An image or a batch.
        strength: Not negative; 1 for ImageNet, 0.5 for CIFAR.
        version: "v2" or "v1", the brightness rule of SimCLRv2 or SimCLR.
        seed: None, or two integers.
        grayscale_probability: Probability that an image becomes gray, in [0, 1].
    """
    draws = make_draws(seed)
    return on_batch(
        image, "image", lambda batch: color(batch, strength, version, grayscale_probability, draws)
    )


def color(batch, strength, version, grayscale_probability, draws):
    """`random_color` of a float32 batch (B, H, W, C)."""
    if not 0 <= strength < math.inf:
        raise ValueError(
            f"`strength` must be finite and not negative. Received: strength={strength}"
        )
    if version not in ("v1", "v2"):
        raise ValueError(f'`version` must be "v1" or "v2". Received: version={version!r}')
    if not 0 <= grayscale_probability <= 1:
        raise ValueError(
            "`grayscale_probability` must be in [0, 1]. "
            f"Received: grayscale_probability={grayscale_probability}"
        )
    if strength == 0:
        return batch
    drawn = draw_color(batch, strength, version, grayscale_probability, draws)
    shape = tf.shape(batch)
    # The maximum over channels, which saturation and hue need, is several times faster over
    # contiguous planes than along a last axis of three.
    channels = batch.shape[-1]
    planes = tf.reshape(batch, (shape[0], shape[1] * shape[2], channels))
    planes = tf.transpose(planes, (0, 2, 1))

    def jitter(some, rows):
        functions = operations(version, channels)
        return _jitter(some, functions, *(tf.gather(x, rows) for x in drawn[1:3]))

    def gray(some, _):
        return tf.stack(grayscale(tf.unstack(some, axis=1)), axis=1)

    planes = apply_where(jitter, planes, drawn.jittered)
    if channels == RGB:
        planes = apply_where(gray, planes, drawn.gray)
    return tf.reshape(tf.transpose(planes, (0, 2, 1)), shape)


class ColorDraws(NamedTuple):
    """The color operations drawn for each image of a batch."""

    jittered: tf.Tensor  # (B,) bool
    order: tf.Tensor  # (B, n) int32, the operation of each turn
    amounts: tf.Tensor  # (B, n) float32, of each of the n operations
    gray: tf.Tensor  # (B,) bool


def draw_color(batch, strength, version, grayscale_probability, draws) -> ColorDraws:
    """Draws the color operations of a batch; `strength` is above 0."""
    drawn_jitter, jitter_draws, drawn_gray = draws.split(3)
    order_draws, amount_draws = jitter_draws.split(2)
    spread = 0.8 * strength
    factor = (max(0.0, 1.0 - spread), 1.0 + spread)
    brightness = factor if version == "v2" else (-spread, spread)
    of_all = (brightness, factor, factor, (-0.2 * strength, 0.2 * strength))
    ranges = of_all[: len(operations(version, batch.shape[-1]))]
    uniform = tf.unstack(amount_draws.uniform(batch, len(ranges)), axis=1)
    amounts = [low + (high - low) * u for u, (low, high) in zip(uniform, ranges, strict=True)]
    return ColorDraws(
        jittered=drawn_jitter.uniform(batch) < _JITTER_PROBABILITY,
        order=tf.argsort(order_draws.uniform(batch, len(ranges))),  # random permutations
        amounts=tf.stack(amounts, axis=1),
        gray=drawn_gray.uniform(batch) < grayscale_probability,
    )


def _jitter(planes, functions, order, amounts):
    """Planes (B, C, H * W) after one of the `functions` in each of the turns of `order`."""
    for turn in range(len(functions)):
        # Every image has one operation in this turn: group the images by it.
        groups = tf.dynamic_partition(tf.range(tf.shape(planes)[0]), order[:, turn], len(functions))
        adjusted = []
        for number, (rows, function) in enumerate(zip(groups, functions, strict=True)):
            channels = tf.unstack(tf.gather(planes, rows), axis=1)
            amount = tf.gather(amounts[:, number], rows)[:, None]
            adjusted.append(tf.stack(function(channels, amount), axis=1))
        planes = tf.clip_by_value(tf.dynamic_stitch(groups, adjusted), 0.0, 1.0)
    return planes


# Operations on channels (..., H * W) in [0, 1], with an `amount` that broadcasts with them.


def operations(version, channels=RGB):
    """The operations of jitter, in the order of their amounts; the last two need RGB."""
    brightness = _scale if version == "v2" else _shift
    of_all = [brightness, _adjust_contrast]
    return of_all + [_adjust_saturation, _adjust_hue] if channels == RGB else of_all


def _scale(channels, amount):
    return [channel * amount for channel in channels]


def _shift(channels, amount):
    return [channel + amount for channel in channels]


def _adjust_contrast(channels, amount):
    means = [tf.reduce_mean(channel, axis=-1, keepdims=True) for channel in channels]
    return [(x - mean) * amount + mean for x, mean in zip(channels, means, strict=True)]


def _value_and_least(channels):
    red, green, blue = channels
    return tf.maximum(tf.maximum(red, green), blue), tf.minimum(tf.minimum(red, green), blue)


def _adjust_saturation(channels, amount):
    # In HSV a channel is value * (1 - saturation * k) where k depends only on the hue, so a new
    # saturation min(amount * saturation, 1) only scales its distance from the value.
    value, least = _value_and_least(channels)
    scale = tf.minimum(amount, tf.math.divide_no_nan(value, value - least))
    return [value - (value - channel) * scale for channel in channels]


def _adjust_hue(channels, amount):
    red, green, blue = channels
    value, least = _value_and_least(channels)
    chroma = value - least
    per_chroma = tf.math.divide_no_nan(1.0, chroma)
    # Select, the op without broadcasting, is several times faster than tf.where on a CPU.
    select = tf.raw_ops.Select
    sextant = select(
        condition=tf.equal(value, red),
        x=(green - blue) * per_chroma,
        y=select(
            condition=tf.equal(value, green),
            x=(blue - red) * per_chroma + 2.0,
            y=(red - green) * per_chroma + 4.0,
        ),
    )
    hue = sextant / 6.0 + amount  # in turns
    sextant = 6.0 * (hue - tf.floor(hue))  # [0, 6]
    red, green, blue = (tf.abs(sextant - peak) for peak in (3.0, 2.0, 4.0))
    shares = (red - 1.0, 2.0 - green, 2.0 - blue)
    return [least + chroma * tf.clip_by_value(share, 0.0, 1.0) for share in shares]


def grayscale(channels):
    """Three times the luma of the channels."""
    luma = tf.add_n([weight * x for weight, x in zip(_LUMA, channels, strict=True)])
    return [luma] * 3
