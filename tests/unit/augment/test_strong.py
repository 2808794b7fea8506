"""Strong views against Pillow's operations, which RandAugment is made of."""

import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from simclrv2_tf import augment
from simclrv2_tf.augment import strong

SIDE = 24


def picture(seed=0, side=SIDE):
    """A smooth colored image (side, side, 3), uint8, of low contrast."""
    small = np.random.default_rng(seed).integers(40, 200, (5, 5, 3), np.uint8)
    return np.array(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC))


def sharper(image, amount):
    return ImageEnhance.Sharpness(image).enhance(amount)


PILLOW = {
    "autocontrast": lambda image, amount: ImageOps.autocontrast(image),
    "brightness": lambda image, amount: ImageEnhance.Brightness(image).enhance(amount),
    "color": lambda image, amount: ImageEnhance.Color(image).enhance(amount),
    "contrast": lambda image, amount: ImageEnhance.Contrast(image).enhance(amount),
    "equalize": lambda image, amount: ImageOps.equalize(image),
    "identity": lambda image, amount: image,
    "posterize": lambda image, amount: ImageOps.posterize(image, int(amount)),
    "sharpness": sharper,
    "solarize": lambda image, amount: ImageOps.solarize(image, 255 * amount),
}


def applied(name, pictures, amounts):
    function, _, _ = strong.OPERATIONS[name]
    amounts = tf.constant(amounts, tf.float32)[:, None, None, None]
    return np.clip(function(tf.constant(np.stack(pictures) / 255, tf.float32), amounts), 0, 1)


@pytest.mark.parametrize("name", PILLOW)
def test_an_operation_on_values_is_pillows(name):
    """For several images and amounts in a batch; of 8 bits, Pillow rounds where we do not."""
    _, low, high = strong.OPERATIONS[name]
    pictures = [picture(seed) for seed in range(4)]
    amounts = np.linspace(low, high, 4)
    found = applied(name, pictures, amounts)
    for ours, image, amount in zip(found, pictures, amounts, strict=True):
        theirs = np.asarray(PILLOW[name](Image.fromarray(image), amount)) / 255
        exact = name in ("equalize", "identity", "posterize")
        np.testing.assert_allclose(ours, theirs, atol=1e-6 if exact else 1.5 / 255)


@pytest.mark.parametrize("name", ["autocontrast", "equalize"])
def test_images_of_one_value_or_of_few_stay_as_in_pillow(name):
    flat = np.full((6, 6, 3), 90, np.uint8)
    two = flat.copy()
    two[:3] = 200
    found = applied(name, [flat, two], [0, 0])
    for ours, image in zip(found, (flat, two), strict=True):
        theirs = np.asarray(PILLOW[name](Image.fromarray(image), 0)) / 255
        np.testing.assert_allclose(ours, theirs, atol=1.5 / 255)


def coefficients(name, amount):
    """Pillow's (a, ..., f): the pixel at (x, y) comes from (ax + by + c, dx + ey + f)."""
    middle = SIDE / 2

    def centered(a, b, d, e):
        return a, b, middle - a * middle - b * middle, d, e, middle - d * middle - e * middle

    return {
        "rotate": centered(math.cos(amount), -math.sin(amount), math.sin(amount), math.cos(amount)),
        "shear_x": centered(1, amount, 0, 1),
        "shear_y": centered(1, 0, amount, 1),
        "translate_x": (1, 0, amount * SIDE, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, amount * SIDE),
    }[name]


@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y", "translate_x", "translate_y"])
def test_a_geometric_operation_is_pillows_inside(name):
    _, low, high = strong.OPERATIONS[name]
    pictures = [picture(seed) for seed in range(3)]
    amounts = [low, 0.4 * high, high]
    found = applied(name, pictures, amounts)
    seen = 0
    for ours, image, amount in zip(found, pictures, amounts, strict=True):
        way = coefficients(name, amount)
        options = dict(resample=Image.Resampling.BILINEAR, fillcolor=(0, 255, 0))
        theirs = np.asarray(
            Image.fromarray(image).transform((SIDE, SIDE), Image.Transform.AFFINE, way, **options)
        )
        outside = (theirs == (0, 255, 0)).all(-1)
        # Next to what is filled in, and at the edge, interpolation differs.
        around = np.stack(
            [np.roll(outside, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        )
        inside = ~around.any(0)
        inside[[0, -1]] = inside[:, [0, -1]] = False
        assert inside.mean() > 0.3
        np.testing.assert_allclose(ours[inside], theirs[inside] / 255, atol=2 / 255)
        filled = around.all(0)
        assert (ours[filled] == 0.5).all()
        seen += filled.sum()
    assert seen


def test_cutout_is_a_square_of_a_share_of_half_the_side():
    batch = tf.ones((4, 20, 20, 2))
    side, row, column = [0.0, 0.5, 1.0, 1.0], [0.5, 0.5, 0.25, 0.0], [0.5, 0.3, 0.75, 0.999]
    found = strong.cutout(batch, *(tf.constant(x) for x in (side, row, column))).numpy()
    for image, share, y, x in zip(found, side, row, column, strict=True):
        half = 0.5 * share * 20 / 2
        for i in range(20):
            for j in range(20):
                inside = abs(i + 0.5 - 20 * y) < half and abs(j + 0.5 - 20 * x) < half
                assert (image[i, j] == (0.5 if inside else 1.0)).all(), (i, j)
    assert (found == 0.5).mean((1, 2, 3)).tolist() == [0, 16 / 400, 100 / 400, 25 / 400]


def test_draws_are_of_the_seed_and_the_place_in_the_batch():
    images = tf.constant(np.stack([picture(k) for k in range(12)]) / 255, tf.float32)
    whole = augment.strong_view(images, (3, 4))
    np.testing.assert_array_equal(whole, augment.strong_view(images, (3, 4)))
    assert not np.array_equal(whole, augment.strong_view(images, (3, 5)))
    for index in range(3):
        part = augment.strong_view(images[index::3], (3, 4), shard=(index, 3))
        np.testing.assert_allclose(part, whole[index::3], atol=1e-6)
    traced = tf.function(lambda x: augment.strong_view(x, (3, 4)), autograph=False)(images)
    np.testing.assert_allclose(traced, whole, atol=1e-6)
    alone = augment.strong_view(images[0], (3, 4))
    assert alone.shape == images[0].shape


def test_every_operation_is_drawn_equally_often():
    """Operations that write their own number show which were drawn."""
    count = 7000
    numbered = {
        name: (lambda batch, amount, k=k: tf.fill(tf.shape(batch), (k + 0.5) / 14), 0.0, 1.0)
        for k, name in enumerate(strong.OPERATIONS)
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strong, "OPERATIONS", numbered)
        patch.setattr(strong, "LARGEST_CUTOUT", 0.0)
        views = augment.strong_view(tf.zeros((count, 2, 2, 1)), (0, 1)).numpy()
    drawn = np.bincount((views[:, 0, 0, 0] * 14).astype(int), minlength=14)
    assert len(drawn) == 14
    deviation = math.sqrt(count / 14 * 13 / 14)
    assert np.abs(drawn - count / 14).max() < 4 * deviation


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_channels_than_rgb(channels):
    """Values stay in range, and color does not move pixels."""
    rng = np.random.default_rng(0)
    images = tf.constant(rng.random((40, 12, 12, channels)), tf.float32)
    views = augment.strong_view(images, (0, 1)).numpy()
    assert views.shape == images.shape and views.min() >= 0 and views.max() <= 1
    function, low, _ = strong.OPERATIONS["color"]
    np.testing.assert_array_equal(function(images, tf.fill((40, 1, 1, 1), low)), images)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_batches_that_draw_few_of_the_operations(count):
    """In a pipeline too, whose graph is the same for all batches."""
    images = np.random.default_rng(0).random((count, 8, 8, 3)).astype(np.float32)
    seeds = tf.data.Dataset.range(40).map(
        lambda k: augment.strong_view(images, tf.stack([k, tf.constant(1, tf.int64)]))
    )
    for views in seeds.as_numpy_iterator():
        assert views.shape == images.shape and np.isfinite(views).all()
