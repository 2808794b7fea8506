"""Color against the reference's recordings and `tf.image`."""

import numpy as np
import pytest
import tensorflow as tf

from helpers.distributions import ERRORS, assert_fraction, assert_quantiles, random_images
from simclrv2_tf import augment
from simclrv2_tf.augment import color as colors


def test_color_operations_equal_tf_image_image_by_image():
    batch = random_images(40, 6, 5, 3)
    batch[0] = batch[0, :, :, :1]  # gray
    batch[1], batch[2] = 0, 1
    batch[3, ..., 1] = batch[3, ..., 0]  # two channels share the maximum or the minimum
    batch[4] = np.round(batch[4])  # corners of the color cube
    rng = np.random.default_rng(2)
    factors = rng.uniform(0, 3, 40).astype(np.float32)
    turns = rng.uniform(-0.5, 0.5, 40).astype(np.float32)
    factors[5:7], turns[5:8] = (0, 1), (-0.5, 0, 0.5)
    cases = [
        (colors._shift, tf.image.adjust_brightness, turns),
        (colors._scale, lambda image, factor: image * factor, factors),
        (colors._adjust_contrast, tf.image.adjust_contrast, factors),
        (colors._adjust_saturation, tf.image.adjust_saturation, factors),
        (colors._adjust_hue, tf.image.adjust_hue, turns),
    ]
    channels = tf.unstack(tf.reshape(batch, (40, 30, 3)), axis=2)
    for operation, reference, amounts in cases:
        result = tf.stack(operation(channels, tf.constant(amounts)[:, None]), axis=2)
        for image, amount, row in zip(batch, amounts, tf.reshape(result, batch.shape), strict=True):
            np.testing.assert_allclose(
                row, reference(image, amount), atol=3e-6, err_msg=operation.__name__
            )
    gray = tf.stack(colors.grayscale(channels), axis=2)
    expected = np.tile(tf.image.rgb_to_grayscale(batch), (1, 1, 1, 3))
    np.testing.assert_allclose(tf.reshape(gray, batch.shape), expected, atol=1e-6)


def jittered(image, count, strength, version):
    return augment.random_color(
        np.broadcast_to(image, (count, *image.shape)), strength, version, seed=(11, 5)
    ).numpy()


def jittered_one_by_one(image, count, strength, version):
    def draw(i):
        return augment.random_color(image, strength, version, seed=tf.stack([i, 3]))

    return np.stack(list(tf.data.Dataset.range(count).map(draw).as_numpy_iterator()))


@pytest.mark.parametrize(
    "draw, count, strength, version",
    [
        (jittered, 8000, 0.5, "v1"),
        (jittered, 8000, 0.5, "v2"),
        (jittered, 8000, 1.0, "v1"),
        (jittered, 8000, 1.0, "v2"),
        (jittered_one_by_one, 1000, 1.0, "v2"),
    ],
)
def test_color_is_distributed_as_the_reference_s(recording, draw, count, strength, version):
    image, draws = recording["jitter/image"], int(recording["jitter/draws"])
    expected = {
        key: recording[f"jitter/simclr{version}/strength_{strength}/{key}"]
        for key in ("mean", "std", "gray_fraction", "unchanged_fraction", "luma_quantiles")
    }
    views = draw(image, count, strength, version)
    assert views.dtype == np.float32 and views.min() >= 0 and views.max() <= 1

    per_draw = 1 / count + 1 / draws
    mean, variance = views.mean(axis=0), views.var(axis=0)
    mean_error = np.sqrt(variance * per_draw)
    assert np.all(np.abs(mean - expected["mean"]) <= ERRORS * mean_error)
    # The variance of a sample variance is (fourth central moment - variance^2) / n.
    fourth = ((views - mean) ** 4).mean(axis=0)
    variance_error = np.sqrt((fourth - variance**2) * per_draw)
    assert np.all(np.abs(variance - expected["std"] ** 2) <= ERRORS * variance_error)

    gray = (np.ptp(views, axis=-1).max(axis=(1, 2)) < 1e-6).mean()
    assert_fraction(gray, count, expected["gray_fraction"], draws)
    unchanged = (np.abs(views - image).max(axis=(1, 2, 3)) < 1e-6).mean()
    assert_fraction(unchanged, count, expected["unchanged_fraction"], draws)
    assert_fraction(unchanged, count, (1 - 0.8) * (1 - 0.2), np.inf)
    # 16% of the draws are the image itself: its brightness is known only to rounding.
    luma = views.mean(axis=(1, 2, 3))
    levels = recording["jitter/quantile_levels"]
    assert_quantiles(luma, expected["luma_quantiles"], levels, draws, fuzz=1e-6)


def test_jitter_order_is_uniform_over_all_24(monkeypatch):
    # Each operation writes its number as the leading octal digit of the pixel: the result tells
    # which operations were done, and in which order.
    names = ("_scale", "_adjust_contrast", "_adjust_saturation", "_adjust_hue")
    for digit, name in enumerate(names):
        monkeypatch.setattr(
            colors, name, lambda channels, _, digit=digit: [(x + digit) / 8 for x in channels]
        )
    monkeypatch.setattr(colors, "_JITTER_PROBABILITY", 1)
    count = 4800
    black = np.zeros((count, 1, 1, 3), np.float32)
    pixels = augment.random_color(black, 1.0, seed=(5, 6), grayscale_probability=0)
    pixels = pixels.numpy()[:, 0, 0, 0]
    digits = (pixels[:, None] * 8.0 ** np.arange(4, 0, -1)).astype(int) % 8  # first done, first
    digits = digits[:, ::-1]
    assert np.all(np.sort(digits, axis=1) == np.arange(4))
    _, counts = np.unique(digits, axis=0, return_counts=True)
    assert len(counts) == 24
    chi_squared = np.sum((counts - count / 24) ** 2) / (count / 24)
    assert chi_squared < 49.7  # 99.9% of chi-squared with 23 degrees of freedom


@pytest.mark.parametrize("probability, expected", [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_as_many_images_become_gray_as_asked_for(probability, expected):
    images = random_images(2000, 4, 4, 3)
    views = augment.random_color(images, 0.5, seed=(1, 2), grayscale_probability=probability)
    gray = (np.ptp(views, axis=-1).max(axis=(1, 2)) < 1e-6).mean()
    assert_fraction(gray, 2000, expected, np.inf)
    # Jitter is drawn as before: images that are gray in neither are equal.
    before = augment.random_color(images, 0.5, seed=(1, 2)).numpy()
    colored = [np.ptp(x, axis=-1).max(axis=(1, 2)) > 1e-3 for x in (views.numpy(), before)]
    both = colored[0] & colored[1]
    np.testing.assert_array_equal(views.numpy()[both], before[both])
    assert both.sum() > 500 or probability == 1


def test_gray_images_stay_gray_and_integers_are_scaled():
    gray = np.repeat(np.random.default_rng(4).integers(0, 256, (32, 9, 9, 1), np.uint8), 3, axis=-1)
    views = augment.random_color(gray, 1.0, seed=(2, 2)).numpy()
    np.testing.assert_allclose(views, views[..., :1].repeat(3, axis=-1), atol=1e-6)
    assert views.max() <= 1 and np.any(np.abs(views - gray / 255.0) > 0.05)
    as_float = augment.random_color(gray / 255.0, 1.0, seed=(2, 2))
    np.testing.assert_allclose(views, as_float, atol=1e-6)


def test_strong_jitter_keeps_its_factors_at_zero_or_above():
    # A negative contrast factor would turn the ramp around; brightness and hue cannot.
    ramp = np.tile(np.linspace(0, 1, 16, dtype=np.float32)[None, :, None], (16, 1, 3))
    views = augment.random_color(np.stack([ramp] * 500), 2.0, seed=(6, 6)).numpy()
    assert np.diff(views, axis=2).min() > -1e-5
