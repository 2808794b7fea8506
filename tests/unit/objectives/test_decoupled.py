"""The decoupled loss: more negatives, and where it is not NT-Xent."""

import math

import numpy as np
import pytest
import tensorflow as tf

from helpers import formulas
from simclrv2_tf.objectives import decoupled, nt_xent


@pytest.mark.parametrize("chunk_size", [None, 3])
@pytest.mark.parametrize("images", [1, 5])
def test_more_negatives_are_in_the_denominator(images, chunk_size):
    z1, z2 = formulas.views(images, 4)
    negatives = np.random.default_rng(1).normal(size=(4, 4)).astype("float32")
    valid = [True, False, True, True]
    options = dict(temperature=0.3, weighted=True)
    loss, _ = decoupled(
        z1, z2, negatives=negatives, negatives_valid=valid, chunk_size=chunk_size, **options
    )
    wanted = formulas.decoupled(
        z1.tolist(), z2.tolist(), negatives=negatives[valid].tolist(), **options
    )
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)


def test_weights_differ_where_similarities_do():
    z1, z2 = formulas.views(6, 4)
    plain, weighted = (decoupled(z1, z2, 0.3, weighted=w)[0] for w in (False, True))
    assert abs(weighted - plain) > 0.01
    same = [decoupled(z1, z1, 0.3, weighted=w)[0] for w in (False, True)]  # all similarities are 1
    np.testing.assert_allclose(*same, rtol=1e-6)


def test_an_image_whose_views_agree_still_learns_from_its_negatives():
    """NT-Xent's gradient vanishes there, which is what the paper mends."""
    images = tf.constant(formulas.views(2, 8)[0])

    def push(objective):
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = objective(images, images, temperature=0.05)[0]
        return float(tf.norm(tape.gradient(loss, images)))

    assert push(decoupled) > 1e3 * push(nt_xent)


def test_one_image_without_negatives_has_its_positive_term_alone():
    loss, metrics = decoupled([[1.0, 0.0]], [[1.0, 1.0]], temperature=0.5)
    np.testing.assert_allclose(loss, -2 * math.sqrt(0.5) / 0.5, rtol=1e-6)
    assert float(metrics["contrast_accuracy"]) == 1.0
