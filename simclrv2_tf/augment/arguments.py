"""Checks and conversions of the arguments of image operations."""

import math
import operator

from etils import epy

from simclrv2_tf.channels import RGB

with epy.lazy_imports():
    import tensorflow as tf


def on_batch(images, name, function):
    """Calls `function` on float32 `images` as a batch (B, H, W, C); one image is a batch of one."""
    images = float_images(images, name, ranks=(3, 4))
    single = images.shape.rank == 3
    result = function(images[None])[0] if single else function(images)
    return tf.ensure_shape(result, images.shape)


def float_images(images, name, ranks):
    """Returns images of one of the `ranks` as float32 in [0, 1]."""
    return tf.image.convert_image_dtype(convertible(images, name, ranks), tf.float32)


def convertible(images, name, ranks):
    """Checks rank, channels and type without converting the pixels.

    Channels that are not known when traced must be three.
    """
    images = tf.convert_to_tensor(images)
    if not (images.dtype.is_floating or images.dtype in (tf.uint8, tf.uint16)):
        raise ValueError(
            f"`{name}` must be uint8, uint16, or float in [0, 1]. "
            f"Received: {name}.dtype={images.dtype.name}"
        )
    if images.shape.rank not in ranks or images.shape[-1] == 0:
        expected = " or ".join({3: "(H, W, C)", 4: "(B, H, W, C)"}[rank] for rank in ranks)
        raise ValueError(
            f"`{name}` must have shape {expected}, its rank known when traced. "
            f"Received: {name}.shape={images.shape}"
        )
    return tf.ensure_shape(images, [*images.shape[:-1], images.shape[-1] or RGB])


def integer(name, value, minimum):
    """Returns `value` as an int of at least `minimum`."""
    try:
        if (number := operator.index(value)) >= minimum:
            return number
    except TypeError:
        pass
    raise ValueError(f"`{name}` must be an integer of at least {minimum}. Received: {name}={value}")


def interval(name, value, largest):
    """Returns `value` as a pair (low, high), 0 < low <= high <= `largest`."""
    pair = tuple(float(end) for end in value)
    if len(pair) != 2 or not 0 < pair[0] <= pair[1] <= largest or math.isinf(pair[-1]):
        bound = "positive and finite" if math.isinf(largest) else f"in (0, {largest:g}]"
        raise ValueError(
            f"`{name}` must be a pair (low, high), low <= high, both {bound}. "
            f"Received: {name}={value}"
        )
    return pair
