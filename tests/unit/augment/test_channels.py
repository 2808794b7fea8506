"""Gray images and bands: operations channel by channel, and jitter in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from helpers.distributions import random_images
from simclrv2_tf import augment
from simclrv2_tf.augment import color as colors
from simclrv2_tf.augment.compiled import compiled_view
from simclrv2_tf.augment.draws import make_draws


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_jitter_is_brightness_and_contrast_by_a_loop(channels, version):
    batch, strength = random_images(30, 6, 5, channels), 0.6
    drawn = colors.draw_color(batch, strength, version, 0.2, make_draws((7, 3)))
    assert drawn.order.shape == drawn.amounts.shape == (30, 2)
    low, high = (-0.48, 0.48) if version == "v1" else (0.52, 1.48)
    assert np.all((drawn.amounts[:, 0] >= low) & (drawn.amounts[:, 0] <= high))
    assert np.all((drawn.amounts[:, 1] >= 0.52) & (drawn.amounts[:, 1] <= 1.48))
    expected = batch.astype(np.float64)
    for image, is_jittered, order, amounts in zip(
        expected, drawn.jittered.numpy(), drawn.order.numpy(), drawn.amounts.numpy(), strict=True
    ):
        for operation in order if is_jittered else ():
            for c in range(channels):
                plane, mean = image[..., c], image[..., c].mean()
                if operation == 1:
                    plane = (plane - mean) * amounts[1] + mean
                else:
                    plane = plane + amounts[0] if version == "v1" else plane * amounts[0]
                image[..., c] = np.clip(plane, 0, 1)
    made = augment.random_color(batch, strength, version, seed=(7, 3), grayscale_probability=0.2)
    np.testing.assert_allclose(made, expected, atol=2e-6)
    assert {*drawn.order[:, 0].numpy()} == {0, 1} and 0 < drawn.jittered.numpy().sum() < 30


@pytest.mark.parametrize("channels", [1, 5])
def test_crops_flips_and_blur_treat_channels_alike(channels):
    image = random_images(1, 30, 20, channels)[0]
    batch = random_images(4, 20, 20, channels)
    operations = (
        lambda x, _: augment.random_crop(x, 12, seed=(1, 2)),
        lambda x, _: augment.evaluation_image(x, 48, antialias=True),
        lambda _, x: augment.random_orientation(x, (3, 4), flip="both", rotate=True),
        lambda _, x: augment.random_blur(x, 5, seed=(5, 6)),
    )
    for operation in operations:
        together = operation(image, batch).numpy()
        assert together.shape[-1] == channels
        for c in range(channels):
            # As the first of three, which is how RGB is tested.
            as_rgb = operation(np.repeat(image[..., c : c + 1], 3, -1), batch[..., [c, c, c]])
            np.testing.assert_allclose(together[..., c], as_rgb[..., 0], atol=1e-6)


@pytest.mark.parametrize("channels", [1])  # in tuples of one, in addition to RGB
def test_compiled_views_are_the_same(channels):
    batch = random_images(6, 20, 20, channels)
    options = {"rotate": True, "flip": "both"}
    view = compiled_view(20, 1.0, "v2", True, channels=channels, **options)
    made = view(batch, tf.constant([1, 2], tf.int64))
    expected = augment.pretraining_view(batch, (1, 2), **options)
    np.testing.assert_allclose(made, expected, atol=3e-6)


def test_views_are_described_without_colors():
    options = augment.ViewOptions(color_jitter_strength=0.5)
    for channels in (1, 4):
        words = options.views_in_words(channels)
        assert "brightness and contrast jitter 0.5 (v2), blur" in words and "gray" not in words
    none = augment.ViewOptions(color_jitter_strength=0.0)
    assert "no color jitter" in none.views_in_words(1)
