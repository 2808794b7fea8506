"""Crops against the reference's recordings and the plainest statement of them."""

import numpy as np
import PIL.Image
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


def by_pillow(window, size):
    """Pillow's BICUBIC, which antialiases, of each channel in float, clipped as ours."""
    channels = [
        PIL.Image.fromarray(np.ascontiguousarray(window[..., c], np.float32)) for c in range(3)
    ]
    resized = [channel.resize((size, size), PIL.Image.Resampling.BICUBIC) for channel in channels]
    return np.clip(np.stack([np.asarray(channel) for channel in resized], axis=-1), 0, 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(
    "height, width, size",
    [(97, 61, 16), (40, 500, 16), (33, 32, 16), (32, 33, 16), (1, 100, 8), (51, 1, 5), (9, 7, 1)],
)
def test_antialiased_resizing_is_pillow_s(height, width, size, dtype):
    image = random_images(height, width, 3)
    image = (255 * image).astype(np.uint8) if dtype is np.uint8 else image
    expected = by_pillow(image / np.float32(255) if dtype is np.uint8 else image, size)
    found = augment.evaluation_image(image, size, antialias=True)
    np.testing.assert_allclose(found, expected, atol=5e-6)
    # Noise makes the two different.
    assert np.abs(augment.evaluation_image(image, size) - expected).max() > 0.1


def test_center_crop_is_antialiased_as_pillow_does():
    # 95 x 131: the side is rint(0.875 * 95) = 83 > 2 * 40, at 6 + 0 rows and 24 columns.
    image = random_images(95, 131, 3)
    expected = by_pillow(image[6:89, 24:107], 40)
    for found in (
        augment.center_crop(image, 40, antialias=True),
        augment.evaluation_image(image, 40, antialias=True),
    ):
        np.testing.assert_allclose(found, expected, atol=5e-6)


@pytest.mark.parametrize("height, width, size", [(32, 32, 16), (32, 5, 16), (8, 9, 20), (1, 1, 3)])
def test_antialiasing_leaves_windows_of_twice_the_size_alone(height, width, size):
    image = random_images(height, width, 3)
    found = augment.evaluation_image(image, size, antialias=True)
    np.testing.assert_array_equal(found, augment.evaluation_image(image, size))


def test_random_crops_are_antialiased_where_they_are_large():
    image = random_images(60, 60, 3)
    kinds = set()
    for i in range(40):
        plain = augment.random_crop(image, 16, (0.1, 1.0), seed=(i, 0)).numpy()
        smooth = augment.random_crop(image, 16, (0.1, 1.0), seed=(i, 0), antialias=True).numpy()
        begin, extent = augment.crops._random_window(
            tf.constant([60, 60, 3]), (0.1, 1.0), (3 / 4, 4 / 3), (i, 0)
        )
        (top, left, _), (height, width, _) = begin.numpy(), extent.numpy()
        large = max(height, width) > 32
        kinds.add(large)
        expected = by_pillow(image[top : top + height, left : left + width], 16)
        np.testing.assert_allclose(smooth, expected if large else plain, atol=5e-6)
    assert kinds == {True, False}


def boxes(shape, draws, area=(0.08, 1.0)):
    """The boxes (top, left, height, width) of seeds (0, 5), (1, 5), ... : (draws, 4)."""
    aspects = (3 / 4, 4 / 3)

    def box(seed):
        seed = tf.stack([seed, 5])
        begin, extent = augment.crops._random_window(tf.constant([*shape, 3]), area, aspects, seed)
        return tf.concat([begin[:2], extent[:2]], 0)

    return next(iter(tf.data.Dataset.range(draws).map(box).batch(draws))).numpy()


@pytest.mark.parametrize(
    "shape, sides",
    [
        ((30, 1500), (30, 40)),
        ((1500, 30), (40, 30)),
        ((2, 40), (2, 3)),
        ((1, 50), (1, 1)),  # 4/3 of a pixel, rounded
        ((50, 1), (1, 1)),
    ],
)
def test_crops_of_panoramas_have_the_full_short_side_at_any_place(shape, sides):
    found = boxes(shape, 2000)
    assert (found[:, 2:] == sides).all()
    axis = int(np.argmax(shape))
    assert (found[:, 1 - axis] == 0).all()
    # Each of the places with equal probability: chi-squared of eight ranges of them.
    places = shape[axis] - sides[axis] + 1
    assert found[:, axis].min() >= 0 and found[:, axis].max() < places
    counts, edges = np.histogram(found[:, axis], bins=np.linspace(0, places, 9))
    expected = np.diff(np.ceil(edges)) / places * 2000
    assert np.sum((counts - expected) ** 2 / expected) < 24.3  # 99.9%, 7 degrees of freedom


def test_crops_of_panoramas_differ_and_are_not_squashed():
    ramp = np.tile(np.linspace(0, 1, 1500, dtype=np.float32)[None, :, None], (30, 1, 3))
    crops = np.stack([augment.random_crop(ramp, 32, seed=(i, 0)).numpy() for i in range(8)])
    assert len({crop.tobytes() for crop in crops}) == 8
    assert np.ptp(crops, axis=2).max() < 0.05  # 40 of 1500 columns


def test_a_large_least_area_needs_the_fallback_sooner():
    # The largest box in 100 x 250 pixels has 100 x 133 of them, 53%; that in 100 x 180 has 74%.
    found = boxes((100, 250), 300, area=(0.7, 1.0))
    assert (found[:, 2:] == (100, 133)).all() and len(np.unique(found[:, 1])) > 60
    sampled = boxes((100, 180), 300, area=(0.7, 1.0))
    shares = sampled[:, 2] * sampled[:, 3] / (100 * 180)
    assert shares.min() > 0.69 and len(np.unique(sampled[:, 2:], axis=0)) > 3


@pytest.mark.parametrize("shape", [(30, 40), (40, 30), (3, 2), (2, 3), (1, 1), (9, 80), (80, 9)])
def test_sampling_that_succeeds_is_tensorflow_s(shape):
    for seed, found in enumerate(boxes(shape, 100)):
        begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
            [*shape, 3],
            [[[0.0, 0.0, 1.0, 1.0]]],
            seed=tf.constant([seed, 5], tf.int64),
            min_object_covered=0.1,
            aspect_ratio_range=(3 / 4, 4 / 3),
            area_range=(0.08, 1.0),
            max_attempts=100,
        )
        np.testing.assert_array_equal(found, [*begin[:2], *extent[:2]])
