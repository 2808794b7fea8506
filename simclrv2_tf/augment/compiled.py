"""Makes the views of a batch in one function compiled by XLA, for pipelines.

Each image has a program: the numbers of the operations drawn for it. The compiled loop handles one
image after the other, so that its pixels stay in the processor's cache, and writes the image once.
Draws are made outside the compiled part, because XLA would draw other numbers.
"""

from __future__ import annotations

import functools

from etils import epy

from simclrv2_tf.augment.blur import draw_blur, gaussian_kernels
from simclrv2_tf.augment.color import (
    GRAYSCALE_PROBABILITY,
    draw_color,
    grayscale,
    operations,
)
from simclrv2_tf.augment.draws import make_draws
from simclrv2_tf.augment.orientation import draw_orientation
from simclrv2_tf.augment.views import pretraining_view
from simclrv2_tf.channels import RGB

with epy.lazy_imports():
    import tensorflow as tf


# The order of the steps of an image; the operations within "jitter" have an order of their own.
_ORDER = ("mirror", "upside_down", "rotate", "jitter", "gray", "blur_rows", "blur_columns")


def compiled_view(
    image_size: int,
    strength: float,
    version: str,
    blur: bool,
    shard: tuple[int, int] = (0, 1),
    *,
    grayscale_probability: float = GRAYSCALE_PROBABILITY,
    flip: str = "horizontal",
    rotate: bool = False,
    channels: int = RGB,
):
    """Returns `pretraining_view` with these arguments as a compiled `tf.function`.

    The function takes crops (B, S, S, C), float32, of `image_size` S and `channels` C, and a seed,
    (2,) int64. It returns what `pretraining_view` returns, to within rounding. XLA compiles it once
    for each B, at least 1, in one or two seconds.
    """
    kernel_size = image_size // 10 if blur else 0
    signature = [
        tf.TensorSpec((None, image_size, image_size, channels), tf.float32),
        tf.TensorSpec((2,), tf.int64),
    ]
    if strength == 0 and kernel_size < 2:  # only flips and rotations: nothing to fuse
        view = functools.partial(
            pretraining_view,
            strength=strength,
            version=version,
            blur=False,
            flip=flip,
            rotate=rotate,
            shard=shard,
        )
        return tf.function(view, signature, autograph=False)
    run = tf.function(functools.partial(_run, version=version), autograph=False, jit_compile=True)

    def compiled(batch, seed):
        flip_draws, color_draws, blur_draws = make_draws(seed, shard).split(3)
        oriented = draw_orientation(batch, flip, rotate, flip_draws)
        steps, numbers = {}, {}
        if oriented.mirrored is not None:
            steps["mirror"] = oriented.mirrored
        if oriented.upside_down is not None:
            steps["upside_down"] = oriented.upside_down
        if oriented.quarters is not None:
            steps["rotate"] = oriented.quarters > 0
            numbers["quarters"] = oriented.quarters
        if strength > 0:
            color = draw_color(batch, strength, version, grayscale_probability, color_draws)
            numbers |= {"order": color.order, "amounts": color.amounts}
            steps["jitter"] = color.jittered
            if channels == RGB:
                steps["gray"] = color.gray
        if kernel_size > 1:
            blurred, sigma = draw_blur(batch, 0.5, blur_draws)
            steps |= {"blur_rows": blurred, "blur_columns": blurred}
            numbers["kernels"] = tf.transpose(gaussian_kernels(kernel_size, sigma))
        return run(batch, steps, numbers)

    return tf.function(compiled, signature, autograph=False)


def _run(batch, steps, numbers, version):
    """Runs the program of each image of `batch` (B, S, S, C).

    Args:
        batch: float32 in [0, 1].
        steps: (B,) bool of each kind of step: whether an image takes it.
        numbers: The parameters of the steps, by name, with one row per image.
        version: As for `random_color`.
    """
    _, size, _, num_channels = batch.shape
    jitter = operations(version, num_channels) if "jitter" in steps else ()
    # Operations are numbered: jitter's come first, as in `order`; the last is the identity.
    others = [name for name in _ORDER if name in steps and name != "jitter"]
    number = {name: len(jitter) + index for index, name in enumerate([*others, "nothing"])}
    nothing = number["nothing"]
    columns = {name: tf.where(steps[name], number[name], nothing)[:, None] for name in others}
    if jitter:
        columns["jitter"] = tf.where(steps["jitter"][:, None], numbers["order"], nothing)
    programs = tf.concat([columns[name] for name in _ORDER if name in columns], axis=1)

    def branches(row, channels):
        def on_pixels(function, *amount):
            # Along one long axis the loops over pixels vectorize best at small sizes.
            flat = function([tf.reshape(channel, (-1,)) for channel in channels], *amount)
            return tuple(tf.reshape(_clipped(channel), (size, size)) for channel in flat)

        def blurred(axis):
            kernel = numbers["kernels"][row]
            return tuple(_clipped(_blur_along(channel, kernel, axis)) for channel in channels)

        by_name = {
            "mirror": lambda: tuple(tf.reverse(channel, [1]) for channel in channels),
            "upside_down": lambda: tuple(tf.reverse(channel, [0]) for channel in channels),
            "rotate": lambda: _rotated(channels, numbers["quarters"][row]),
            "gray": lambda: on_pixels(grayscale),
            "blur_rows": lambda: blurred(0),
            "blur_columns": lambda: blurred(1),
            "nothing": lambda: tuple(channels),
        }

        def jittered(index, function):
            return lambda: on_pixels(function, numbers["amounts"][row, index])

        return [jittered(*item) for item in enumerate(jitter)] + [by_name[n] for n in number]

    def one_image(row, views):
        # Separate channels are contiguous, and each operation is one loop per channel.
        channels = [batch[row, :, :, c] for c in range(num_channels)]
        _, *channels = tf.while_loop(
            lambda step, *_: step < programs.shape[1],
            lambda step, *channels: (
                step + 1,
                *tf.switch_case(programs[row, step], branches(row, channels)),
            ),
            (0, *channels),
        )
        view = tf.stack(channels, axis=-1)
        return row + 1, views.write(row, _clipped(view))

    count = tf.shape(batch)[0]
    views = tf.TensorArray(tf.float32, count, element_shape=(size, size, num_channels))
    _, views = tf.while_loop(lambda row, _: row < count, one_image, (0, views))
    return views.stack()


def _rotated(channels, quarters):
    """Channels (S, S), rotated counterclockwise by 1, 2 or 3 times 90 degrees."""
    by_quarters = (
        lambda: tuple(tf.reverse(tf.transpose(channel), [0]) for channel in channels),
        lambda: tuple(tf.reverse(channel, [0, 1]) for channel in channels),
        lambda: tuple(tf.reverse(tf.transpose(channel), [1]) for channel in channels),
    )
    return tf.switch_case(quarters - 1, by_quarters)


def _clipped(channel):
    return tf.clip_by_value(channel, 0.0, 1.0)


def _blur_along(square, kernel, axis):
    """Convolves (S, S) along an axis with a symmetric kernel (k,), k odd, with zero padding."""
    size, radius = square.shape[axis], kernel.shape[0] // 2
    paddings = [[0, 0], [0, 0]]
    paddings[axis] = [radius, radius]
    padded = tf.pad(square, paddings)

    def window(start):
        return padded[start : start + size] if axis == 0 else padded[:, start : start + size]

    total = kernel[radius] * window(radius)
    for tap in range(radius):
        total += kernel[tap] * (window(tap) + window(2 * radius - tap))
    return total
