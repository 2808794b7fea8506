"""Flips and rotations: their distribution, and NumPy's on the same images."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from helpers.distributions import random_images
from simclrv2_tf import augment

# 99.9% of chi-squared, by degrees of freedom.
CHI_SQUARED = {1: 10.83, 3: 16.27, 7: 24.32, 15: 37.70}

# What can become of an image: mirrored or not, then rotated counterclockwise.
MIRRORED = (False, True)
QUARTERS = range(4)


def transformed(image, mirrored, quarters):
    return np.rot90(image[:, ::-1] if mirrored else image, quarters)


def found_in(views, image, expected):
    """How many of the views are each of the `expected`, (mirrored, quarters); all are one."""
    counts = [
        int((views == transformed(image, *each)).all(axis=(1, 2, 3)).sum()) for each in expected
    ]
    assert sum(counts) == len(views)
    return np.array(counts)


def assert_equally_often(counts):
    expected = counts.sum() / len(counts)
    assert np.sum((counts - expected) ** 2 / expected) < CHI_SQUARED[len(counts) - 1]


@pytest.mark.parametrize(
    "flip, rotate, expected",
    [
        ("horizontal", False, [(False, 0), (True, 0)]),
        ("vertical", False, [(False, 0), (True, 2)]),  # upside down: mirrored and turned around
        ("both", False, [(False, 0), (True, 0), (True, 2), (False, 2)]),
        ("none", False, [(False, 0)]),
        ("none", True, [(False, quarters) for quarters in QUARTERS]),
        ("horizontal", True, [*itertools.product(MIRRORED, QUARTERS)]),
        ("vertical", True, [*itertools.product(MIRRORED, QUARTERS)]),
        ("both", True, [*itertools.product(MIRRORED, QUARTERS)]),
    ],
)
def test_every_orientation_occurs_equally_often(flip, rotate, expected):
    image = random_images(5, 5, 3)
    batch = np.broadcast_to(image, (4000, 5, 5, 3))
    views = augment.random_orientation(batch, (1, 2), flip=flip, rotate=rotate).numpy()
    counts = found_in(views, image, expected)
    if len(expected) > 1:
        assert_equally_often(counts)
    again = augment.random_orientation(batch, (1, 2), flip=flip, rotate=rotate)
    np.testing.assert_array_equal(again, views)


def test_seeds_rotate_single_images_equally_often():
    image = random_images(4, 4, 3)
    seeds = tf.data.Dataset.range(2000)
    views = seeds.map(
        lambda i: augment.random_orientation(image, tf.stack([i, 3]), flip="none", rotate=True)
    )
    views = next(iter(views.batch(2000))).numpy()
    assert_equally_often(found_in(views, image, [(False, quarters) for quarters in QUARTERS]))


def test_flips_and_rotations_are_independent():
    batch = tf.zeros((8000, 2, 2, 3))
    drawn = augment.orientation.draw_orientation(
        batch, "both", True, augment.draws.make_draws((1, 2))
    )
    outcomes = 8 * drawn.mirrored.numpy() + 4 * drawn.upside_down.numpy() + drawn.quarters.numpy()
    counts = np.bincount(outcomes, minlength=16)
    assert len(counts) == 16
    assert_equally_often(counts)


def test_what_else_is_drawn_leaves_the_horizontal_flip_as_it_was():
    image = random_images(3, 3, 3)
    batch = np.broadcast_to(image, (64, 3, 3, 3))
    numbers = tf.random.stateless_uniform((64,), tf.constant([5, 6], tf.int64)).numpy()
    expected = np.where(numbers[:, None, None, None] < 0.5, image[:, ::-1], image)
    np.testing.assert_array_equal(augment.random_flip(batch, (5, 6)), expected)
    drawn = augment.orientation.draw_orientation(
        tf.constant(batch), "both", True, augment.draws.make_draws((5, 6))
    )
    np.testing.assert_array_equal(drawn.mirrored, numbers < 0.5)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_integers_and_single_images(size):
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    for seed in range(6):
        view = augment.random_orientation(image, (seed, 0), flip="both", rotate=True).numpy()
        possible = [
            transformed(image / np.float32(255), *each)
            for each in itertools.product(MIRRORED, QUARTERS)
        ]
        assert any(np.allclose(view, each, atol=1e-7) for each in possible)


def test_images_that_are_not_square_flip_and_do_not_rotate():
    images = random_images(40, 3, 5, 3)
    for flip, axes in (("horizontal", [2]), ("vertical", [1])):
        flipped = augment.random_flip(images, (1, 2), flip=flip).numpy()
        changed = (flipped != images).any(axis=(1, 2, 3))
        np.testing.assert_array_equal(flipped[changed], np.flip(images, axes)[changed])
        assert 5 < changed.sum() < 35
    with pytest.raises(ValueError, match=r"`images` must be square .*shape=\(40, 3, 5, 3\)"):
        augment.random_orientation(images, rotate=True)
    with pytest.raises(
        ValueError, match="one of horizontal, vertical, both, none. Received: flip="
    ):
        augment.random_flip(images, flip="diagonal")
