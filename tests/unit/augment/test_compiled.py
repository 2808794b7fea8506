"""Compiled views against `pretraining_view`, operation by operation."""

import numpy as np
import pytest
import tensorflow as tf

from helpers.distributions import random_images
from simclrv2_tf import augment
from simclrv2_tf.augment.compiled import compiled_view


@pytest.mark.parametrize(
    "size, strength, version, blur, shard, others",
    [
        (50, 1.0, "v2", True, (0, 1), {}),
        (20, 0.5, "v1", True, (1, 3), {"flip": "both", "rotate": True}),
        (12, 2.5, "v2", False, (0, 1), {"flip": "vertical", "grayscale_probability": 0.0}),
        (9, 1.0, "v1", True, (0, 1), {"rotate": True}),  # the window of the blur is one pixel
        (30, 0.0, "v2", True, (0, 1), {"flip": "none"}),
        (12, 1.0, "v2", False, (0, 1), {"flip": "none", "grayscale_probability": 1.0}),
        (12, 0.0, "v2", False, (0, 2), {}),
        (12, 0.0, "v2", False, (0, 2), {"flip": "both", "rotate": True}),
        (1, 1.0, "v2", True, (0, 1), {"flip": "both", "rotate": True}),
    ],
)
def test_compiled_views_are_the_views(size, strength, version, blur, shard, others):
    batch = random_images(100, size, size, 3)
    batch[0] = batch[0, :, :, :1]  # gray
    batch[1], batch[2] = 0, 1
    view = compiled_view(size, strength, version, blur, shard, **others)
    for seed in ([3, 4], [5, 6]):
        expected = augment.pretraining_view(
            batch, seed, strength=strength, version=version, blur=blur, shard=shard, **others
        )
        np.testing.assert_allclose(view(batch, tf.constant(seed, tf.int64)), expected, atol=1e-5)


def test_compiled_views_are_the_same_in_a_data_set():
    batch = random_images(8, 12, 12, 3)
    view = compiled_view(12, 1.0, "v2", False)
    seed = tf.constant([1, 2], tf.int64)
    views = tf.data.Dataset.from_tensors(batch).map(lambda images: view(images, seed))
    (mapped,) = views.as_numpy_iterator()
    np.testing.assert_array_equal(mapped, view(batch, seed))
