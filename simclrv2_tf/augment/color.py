"""Color jitter and grayscale of SimCLR and SimCLRv2."""

from __future__ import annotations

import math

from etils import epy

from simclrv2_tf.augment.arguments import on_batch
from simclrv2_tf.augment.draws import apply_to_some, make_draws

with epy.lazy_imports():
    import tensorflow as tf

_JITTER_PROBABILITY = 0.8
_GRAYSCALE_PROBABILITY = 0.2
_LUMA = (0.2989, 0.5870, 0.1140)


def random_color(image, strength: float, version: str = "v2", seed=None) -> tf.Tensor:
    """Jitters the color of each image with probability 0.8, then drops color with 0.2.

    Jitter is brightness, contrast, saturation and hue, each once, in a random order, each clipped
    to [0, 1]. With d = 0.8 * `strength`: brightness multiplies by U(max(0, 1 - d), 1 + d)
    in version "v2" and adds U(-d, d) in "v1"; contrast and saturation have a factor of
    U(max(0, 1 - d), 1 + d); hue turns by U(-0.2, 0.2) * `strength` of a full turn. The operations
    are those of `tf.image.adjust_*`. From `strength` 1.25 on the lower factor is held at 0; the
    reference has no valid contrast range there. Zero `strength` turns jitter and grayscale off,
    as in the reference.

    Args:
        image: An image or a batch.
        strength: Not negative; 1 for ImageNet, 0.5 for CIFAR.
        version: "v2" or "v1", the brightness rule of SimCLRv2 or SimCLR.
        seed: None, or two integers.
    """
    draws = make_draws(seed)
    return on_batch(image, "image", lambda batch: color(batch, strength, version, draws))


def color(batch, strength, version, draws):
    """`random_color` of a float32 batch (B, H, W, 3)."""
    if not 0 <= strength < math.inf:
        raise ValueError(
            f"`strength` must be finite and not negative. Received: strength={strength}"
        )
    if version not in ("v1", "v2"):
        raise ValueError(f'`version` must be "v1" or "v2". Received: version={version!r}')
    if strength == 0:
        return batch
    drawn_jitter, jitter_draws, drawn_gray = draws.split(3)
    shape = tf.shape(batch)
    # The maximum over channels, which saturation and hue need, is several times faster over
    # contiguous planes than along a last axis of three.
    planes = tf.transpose(tf.reshape(batch, (shape[0], shape[1] * shape[2], 3)), (0, 2, 1))
    order_draws, amount_draws = jitter_draws.split(2)
    order = tf.argsort(order_draws.uniform(planes, 4))  # (B, 4) random permutations
    uniform = amount_draws.uniform(planes, 4)

    def jitter(some, rows):
        return _jitter(some, strength, version, tf.gather(order, rows), tf.gather(uniform, rows))

    planes = apply_to_some(jitter, planes, _JITTER_PROBABILITY, drawn_jitter)
    planes = apply_to_some(_grayscale, planes, _GRAYSCALE_PROBABILITY, drawn_gray)
    return tf.reshape(tf.transpose(planes, (0, 2, 1)), shape)


# Operations on planes (B, 3, H * W) in [0, 1], with one `amount` (B,) per image.


def _jitter(planes, strength, version, order, uniform):
    """`order` (B, 4): the operation of each turn; `uniform` (B, 4) in [0, 1): their amounts."""
    count = tf.shape(planes)[0]
    spread = 0.8 * strength
    factor = (max(0.0, 1.0 - spread), 1.0 + spread)
    operations = (
        (_scale, factor) if version == "v2" else (_shift, (-spread, spread)),
        (_adjust_contrast, factor),
        (_adjust_saturation, factor),
        (_adjust_hue, (-0.2 * strength, 0.2 * strength)),
    )
    amounts = [
        low + (high - low) * u
        for u, (_, (low, high)) in zip(tf.unstack(uniform, axis=1), operations, strict=True)
    ]
    for turn in range(4):
        # Every image has one operation in this turn: group the images by it.
        groups = tf.dynamic_partition(tf.range(count), order[:, turn], 4)
        adjusted = [
            operation(tf.gather(planes, rows), tf.gather(amount, rows))
            for rows, amount, (operation, _) in zip(groups, amounts, operations, strict=True)
        ]
        planes = tf.clip_by_value(tf.dynamic_stitch(groups, adjusted), 0.0, 1.0)
    return planes


def _scale(planes, amount):
    return planes * amount[:, None, None]


def _shift(planes, amount):
    return planes + amount[:, None, None]


def _adjust_contrast(planes, amount):
    mean = tf.reduce_mean(planes, axis=2, keepdims=True)
    return (planes - mean) * amount[:, None, None] + mean


def _adjust_saturation(planes, amount):
    # In HSV a channel is value * (1 - saturation * k) with k given by the hue alone, so a new
    # saturation min(amount * saturation, 1) only scales its distance from the value.
    value = tf.reduce_max(planes, axis=1, keepdims=True)
    chroma = value - tf.reduce_min(planes, axis=1, keepdims=True)
    scale = tf.minimum(amount[:, None, None], tf.math.divide_no_nan(value, chroma))
    return value - (value - planes) * scale


def _adjust_hue(planes, amount):
    red, green, blue = tf.unstack(planes, axis=1)
    value = tf.maximum(tf.maximum(red, green), blue)
    low = tf.minimum(tf.minimum(red, green), blue)
    chroma = value - low
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
    hue = sextant / 6.0 + amount[:, None]  # in turns
    sextant = 6.0 * (hue - tf.floor(hue))  # [0, 6]
    red, green, blue = (tf.abs(sextant - peak) for peak in (3.0, 2.0, 4.0))
    share = tf.clip_by_value(tf.stack((red - 1.0, 2.0 - green, 2.0 - blue), axis=1), 0.0, 1.0)
    return low[:, None] + chroma[:, None] * share


def _grayscale(planes, rows=None):
    luma = tf.reduce_sum(planes * tf.constant(_LUMA)[:, None], axis=1, keepdims=True)
    return tf.tile(luma, (1, 3, 1))
