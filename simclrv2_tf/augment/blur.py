"""Gaussian blur."""

from __future__ import annotations

from etils import epy

from simclrv2_tf.augment.arguments import integer, on_batch
from simclrv2_tf.augment.draws import apply_where, make_draws

with epy.lazy_imports():
    import tensorflow as tf


def gaussian_blur(image, kernel_size: int, sigma) -> tf.Tensor:
    """Blurs with a Gaussian, normalized over its window, with zero padding (SAME), unclipped.

    Args:
        image: An image or a batch.
        kernel_size: Width of the window in pixels, not negative. An even k means k + 1, as in the
            reference.
        sigma: Standard deviation in pixels, positive: a scalar, or (B,), one per image.
    """
    kernel_size = integer("kernel_size", kernel_size, minimum=0)
    sigma = tf.cast(sigma, tf.float32)
    known = tf.get_static_value(sigma)
    if known is not None and not (known > 0).all():
        raise ValueError(f"`sigma` must be positive. Received: sigma={known}")

    def blur(batch):
        per_image = sigma.shape.rank == 1 and sigma.shape.is_compatible_with(batch.shape[:1])
        if not (sigma.shape.rank == 0 or per_image):
            raise ValueError(
                "`sigma` must be a scalar or (B,), one entry per image. "
                f"Received: sigma.shape={sigma.shape} for {batch.shape[0]} images"
            )
        return _blur(batch, kernel_size, sigma)

    return on_batch(image, "image", blur)


def random_blur(
    images, kernel_size: int | None = None, probability: float = 0.5, seed=None
) -> tf.Tensor:
    """Blurs each image with `probability`, with a Gaussian of sigma U(0.1, 2) pixels.

    Every image draws its own sigma, as in the paper; the reference draws one for a whole batch.

    Args:
        images: An image or a batch.
        kernel_size: Width of the window in pixels, as for `gaussian_blur`. None takes a tenth of
            the image height, rounded down; the height must then be known when traced.
        probability: In [0, 1].
        seed: None, or two integers.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"`probability` must be in [0, 1]. Received: probability={probability}")
    draws = make_draws(seed)
    return on_batch(
        images, "images", lambda batch: randomly_blurred(batch, kernel_size, probability, draws)
    )


def randomly_blurred(batch, kernel_size, probability, draws):
    """`random_blur` of a float32 batch (B, H, W, C)."""
    if kernel_size is not None:
        kernel_size = integer("kernel_size", kernel_size, minimum=0)
    else:
        if batch.shape[1] is None:
            raise ValueError(
                "`kernel_size` must be given if the image height is not known. "
                f"Received: kernel_size=None for images of shape {batch.shape}"
            )
        kernel_size = batch.shape[1] // 10
    drawn, sigma = draw_blur(batch, probability, draws)

    def blur(some, rows):
        return tf.clip_by_value(_blur(some, kernel_size, tf.gather(sigma, rows)), 0.0, 1.0)

    return apply_where(blur, batch, drawn)


def draw_blur(batch, probability, draws):
    """Draws which images of a batch are blurred, (B,) bool, and their sigma, (B,) in pixels."""
    drawn, sigma_draws = draws.split(2)
    return drawn.uniform(batch) < probability, sigma_draws.uniform(batch, low=0.1, high=2.0)


def gaussian_kernels(kernel_size, sigma):
    """Weights (k, B) of windows of `kernel_size` pixels, k odd, for `sigma` (B,)."""
    radius = kernel_size // 2
    offsets = tf.range(-radius, radius + 1, dtype=tf.float32)
    kernels = tf.exp(-tf.square(offsets[:, None] / sigma) / 2.0)
    return kernels / tf.reduce_sum(kernels, axis=0)


def _blur(batch, kernel_size, sigma):
    count, height, width, _ = tf.unstack(tf.shape(batch))
    channels = batch.shape[-1]
    kernels = gaussian_kernels(kernel_size, tf.broadcast_to(sigma, (count,)))
    kernels = tf.repeat(kernels, channels, axis=1)  # (k, CB)

    def convolve():
        # Images side by side on the channel axis: one depthwise convolution gives each its kernel.
        folded = tf.transpose(batch, (1, 2, 0, 3))
        folded = tf.reshape(folded, (1, height, width, channels * count))
        for filters in (kernels[None, :, :, None], kernels[:, None, :, None]):
            folded = tf.nn.depthwise_conv2d(folded, filters, strides=[1, 1, 1, 1], padding="SAME")
        unfolded = tf.reshape(folded, (height, width, count, channels))
        return tf.transpose(unfolded, (2, 0, 1, 3))

    # A convolution rejects zero channels, and it can happen that no image is drawn.
    return tf.cond(count > 0, convolve, lambda: batch)
