"""Crops against the reference's recordings and the plainest statement of them."""

import numpy as np
import pytest
import tensorflow as tf

from helpers.distributions import assert_quantiles, random_images
from simclrv2_tf import augment


@pytest.mark.parametrize("case", range(4))
def test_center_crop_equals_the_reference(recording, case):
    image = recording[f"center_crop/{case}/image"]
    expected = recording[f"center_crop/{case}/output"]
    size = int(recording[f"center_crop/{case}/size"])
    cropped = augment.center_crop(image, size)
    assert cropped.dtype == tf.float32
    np.testing.assert_allclose(cropped, expected, atol=1e-5)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None), tf.uint8)])
    def traced(image):
        return augment.center_crop(image, size)

    assert traced.get_concrete_function().output_shapes == (size, size, 3)
    np.testing.assert_allclose(traced(image), expected, atol=1e-5)


def test_center_crop_takes_the_square_of_the_stated_side_and_offset():
    # 20 rows: the side is rint(0.875 * 20 = 17.5) = 18 (half to even), the offsets (20 - 18 + 1)
    # // 2 = 1 and (31 - 18 + 1) // 2 = 7. At an unchanged size nothing is interpolated.
    image = random_images(20, 31, 3)
    np.testing.assert_allclose(augment.center_crop(image, 18), image[1:19, 7:25], atol=1e-6)
    np.testing.assert_allclose(
        augment.center_crop(image.transpose(1, 0, 2), 18),
        image[1:19, 7:25].transpose(1, 0, 2),
        atol=1e-6,
    )
    np.testing.assert_allclose(augment.center_crop(image, 10, 0.5), image[5:15, 11:21], atol=1e-6)


def test_center_crop_of_few_pixels_keeps_one():
    image = random_images(2, 3, 3)
    cropped = augment.center_crop(image, 4, proportion=0.1)
    np.testing.assert_allclose(cropped, np.broadcast_to(image[1, 1], (4, 4, 3)), atol=1e-6)


def test_evaluation_image_crops_large_images_and_resizes_small_ones():
    image = np.random.default_rng(1).integers(0, 256, (40, 52, 3), np.uint8)
    np.testing.assert_array_equal(
        augment.evaluation_image(image, 33), augment.center_crop(image, 33)
    )
    # At 32 the whole image is in: unchanged where the size fits, else resized, and clipped.
    np.testing.assert_allclose(
        augment.evaluation_image(image[:32, :32], 32), image[:32, :32] / 255.0, atol=1e-6
    )
    small = augment.evaluation_image(image, 32)
    resized = tf.image.resize(image / 255.0, (32, 32), method="bicubic")
    np.testing.assert_allclose(small, np.clip(resized, 0, 1), atol=1e-6)
    assert np.max(resized) > 1 >= np.max(small)
    assert np.abs(small - augment.center_crop(image, 32)).max() > 0.1


def test_crops_are_distributed_as_the_reference_s(recording):
    height, width = int(recording["crop/image_height"]), int(recording["crop/image_width"])
    size, draws = int(recording["crop/output_size"]), int(recording["crop/draws"])
    ramp = np.full((height, width, 3), 0.5, np.float32)
    ramp[..., 0] = np.linspace(0, 1, width)
    ramp[..., 1] = np.linspace(0, 1, height)[:, None]
    crops = np.concatenate(
        list(
            tf.data.Dataset.range(6000)
            .map(lambda i: augment.random_crop(ramp, size, seed=tf.stack([i, 7])))
            .batch(1000)
            .as_numpy_iterator()
        )
    )
    assert crops.shape == (6000, size, size, 3)
    x0, x1 = crops[:, 16, 2, 0], crops[:, 16, -3, 0]
    y0, y1 = crops[:, 2, 16, 1], crops[:, -3, 16, 1]
    sx, sy = (x1 - x0) * 32 / 27, (y1 - y0) * 32 / 27
    found = {
        "area": sx * sy,
        "aspect": sx * width / (sy * height),
        "center_x": (x0 + x1) / 2,
    }
    for name, values in found.items():
        # Positions and sides are whole pixels, read off an interpolated ramp.
        quantiles = recording[f"crop/{name}_quantiles"]
        assert_quantiles(values, quantiles, recording["crop/quantile_levels"], draws, fuzz=1e-5)
    # The recorded quantiles say little about the ends. Those are known: the least share that must
    # be covered, 0.1, and the whole. (n pixels measure n / (n - 1) on a ramp.)
    pixels = found["area"] * (height - 1) * (width - 1) / (height * width)
    assert 0.0995 < pixels.min() < 0.103 and 0.95 < pixels.max() < 1.001


def test_crop_follows_its_seed_and_ranges():
    image = np.random.default_rng(3).integers(0, 256, (30, 40, 3), np.uint8)
    first = augment.random_crop(image, 16, seed=(1, 2))
    np.testing.assert_array_equal(first, augment.random_crop(image, 16, seed=[1, 2]))
    assert np.any(first != augment.random_crop(image, 16, seed=(1, 3)))
    assert np.min(first) >= 0 and np.max(first) <= 1
    # A float image is the same image.
    same = augment.random_crop(image.astype(np.float64) / 255, 16, seed=(1, 2))
    np.testing.assert_allclose(same, first, atol=1e-6)
    # All of a square image is the only box of the whole area.
    whole = augment.random_crop(image[:, :30], 30, (1.0, 1.0), (1.0, 1.0), seed=(1, 2))
    np.testing.assert_allclose(whole, image[:, :30] / 255.0, atol=1e-6)
    # A narrow range of areas, read off a ramp: the slope is the side of the box.
    ramp = np.tile(np.linspace(0, 1, 100, dtype=np.float32)[:, None], (1, 100))
    ramp = np.stack([ramp, ramp.T, ramp], axis=-1)
    for i in range(20):
        crop = augment.random_crop(ramp, 32, (0.2, 0.25), (1.9, 2.1), seed=(i, 0)).numpy()
        height = (crop[-3, 16, 0] - crop[2, 16, 0]) * 32 / 27
        width = (crop[16, -3, 1] - crop[16, 2, 1]) * 32 / 27
        assert 0.19 < height * width < 0.27 and 1.8 < width / height < 2.2
