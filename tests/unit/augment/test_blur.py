"""Blur against the reference's recordings and a sum over its window."""

import numpy as np
import pytest
import tensorflow as tf

from helpers.distributions import random_images
from simclrv2_tf import augment


@pytest.mark.parametrize("case", range(4))
def test_blur_equals_the_reference(recording, case):
    image = recording[f"blur/{case}/image"]
    kernel_size = int(recording[f"blur/{case}/kernel_size"])
    sigma = float(recording[f"blur/{case}/sigma"])
    expected = recording[f"blur/{case}/output"]
    np.testing.assert_allclose(
        augment.gaussian_blur(image, kernel_size, sigma), expected, atol=1e-5
    )
    # In a batch each image has its own sigma.
    batch = augment.gaussian_blur(np.stack([image, image]), kernel_size, [sigma, 0.7])
    np.testing.assert_allclose(batch[0], expected, atol=1e-5)
    assert np.abs(batch[1] - expected).max() > 1e-2


def test_blur_equals_a_sum_over_the_window_with_zeros_outside():
    image = random_images(7, 6, 3)
    radius, sigma = 2, 1.3
    offsets = range(-radius, radius + 1)
    weights = {o: np.exp(-(o**2) / (2 * sigma**2)) for o in offsets}
    total = sum(weights.values())
    expected = np.zeros_like(image)
    for y in range(7):
        for x in range(6):
            for dy in offsets:
                for dx in offsets:
                    if 0 <= y + dy < 7 and 0 <= x + dx < 6:
                        weight = weights[dy] * weights[dx] / total**2
                        expected[y, x] += weight * image[y + dy, x + dx]
    for kernel_size in (4, 5):  # an even size is widened by one
        np.testing.assert_allclose(
            augment.gaussian_blur(image, kernel_size, sigma), expected, atol=1e-6
        )
    np.testing.assert_allclose(augment.gaussian_blur(image, 0, sigma), image, atol=1e-6)
    # A window larger than the image.
    assert augment.gaussian_blur(image, 21, sigma).shape == (7, 6, 3)


def test_probabilities_zero_and_one_and_the_window_of_blur():
    batch, seed = random_images(6, 20, 20, 3), (1, 1)
    np.testing.assert_array_equal(augment.random_blur(batch, 3, 0.0, seed), batch)
    blurred = augment.random_blur(batch, 3, 1.0, seed)
    assert np.all(np.any(blurred != batch, axis=(1, 2, 3)))
    # The window is a tenth of the height, made odd: three pixels at 20 rows, one at 19.
    np.testing.assert_array_equal(augment.random_blur(batch, None, 1.0, seed), blurred)
    unblurred = augment.random_blur(batch[:, :19], None, 1.0, seed)
    np.testing.assert_allclose(unblurred, batch[:, :19], atol=1e-6)


def test_blur_of_unknown_height_needs_its_window():
    trace = tf.function(
        augment.random_blur, input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)]
    )
    with pytest.raises(ValueError, match="`kernel_size` must be given"):
        trace(random_images(1, 10, 10, 3))
