"""BYOL's and SimSiam's losses: no gradient into the targets, and bad targets."""

import numpy as np
import pytest
import tensorflow as tf

from helpers.formulas import views
from simclrv2_tf.objectives import BYOL, SimSiam, byol, simsiam


@pytest.mark.parametrize("loss", [byol, simsiam])
def test_no_gradient_reaches_the_targets(loss):
    p1, p2, t1, t2 = (tf.constant(z) for z in (*views(4, 3), *views(4, 3, seed=1)))
    with tf.GradientTape() as tape:
        tape.watch([p1, p2, t1, t2])
        value = loss(p1, p2, (t1, t2))
    zeros = tf.UnconnectedGradients.ZERO
    predictions, targets = np.split(
        np.array(tape.gradient(value, [p1, p2, t1, t2], unconnected_gradients=zeros)), 2
    )
    assert np.all(np.any(predictions, axis=(1, 2))) and not np.any(targets)


def test_values_of_perfect_and_opposite_predictions():
    z1, z2 = views(4, 3)
    assert float(byol(z2, 3 * z1, (z1, z2))) == pytest.approx(0, abs=1e-6)
    assert float(byol(-z2, -z1, (z1, z2))) == pytest.approx(8)
    assert float(simsiam(z2, 3 * z1, (z1, z2))) == pytest.approx(-1)


@pytest.mark.parametrize("objective", [BYOL(), SimSiam()])
def test_bad_targets(objective):
    z1, z2 = views(4, 3)
    for targets in (None, z1, (z1,), (z1, z2, z1)):
        with pytest.raises(ValueError, match="`targets` must be a pair"):
            objective(z1, z2, targets=targets)
    with pytest.raises(ValueError, match=r"have the shape of the .* target1.shape=\(3, 3\)"):
        objective(z1, z2, targets=(z1[:3], z2[:3]))
    with pytest.raises(ValueError, match="`target1` and `target2` must have one shape"):
        objective(z1, z2, targets=(z1, z2[:3]))


def test_default_widths_of_the_predictor_are_published_ones():
    assert BYOL().predictor_width(4096, 256) == 4096
    assert SimSiam().predictor_width(2048, 2048) == 512
    assert SimSiam().predictor_width(8, 2) == 1
