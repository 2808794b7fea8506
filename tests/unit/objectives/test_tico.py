"""The running covariance of TiCo and of its hybrid with VICReg, from batch to batch."""

import math

import numpy as np
import pytest
import tensorflow as tf

from helpers.formulas import (
    ROWS,
    assert_close,
    contrast,
    dot,
    expected,
    expected_gradients,
    mean,
    numeric_gradients,
    past_covariance,
    unit,
    views,
)
from simclrv2_tf import objectives

NAMES = ("tico", "vicreg_tico")


@pytest.mark.parametrize(
    "name, case", [(name, case) for name in NAMES for case in ROWS[name].cases]
)
def test_steps_carry_the_covariance_and_no_gradient(name, case):
    options, function = ROWS[name].cases[case], getattr(objectives, name)
    carried = theirs = np.zeros((4, 4))
    batches = [[tf.constant(z) for z in views(5 + step, 4, seed=step)] for step in range(4)]
    for step, (z1, z2) in enumerate(batches):
        with tf.GradientTape(persistent=True) as tape:
            before = tf.constant(carried, tf.float32)
            tape.watch([z1, z2, before])
            loss, carried = function(z1, z2, before, **options)
            next_loss, _ = function(*batches[0], carried, **options)
        past = {"covariance": theirs}
        wanted_loss, after = expected(name, z1, z2, past, **options)
        assert_close(loss, wanted_loss)
        assert_close(carried, after["covariance"])
        assert tape.gradient(loss, before) is None
        assert tape.gradient(carried, [z1, z2, before]) == [None] * 3
        if step > 0:  # the first batch is the next one too
            assert tape.gradient(next_loss, [z1, z2, before]) == [None] * 3
        gradients = tape.gradient(loss, [z1, z2])
        assert_close(gradients, expected_gradients(name, z1, z2, past, **options))
        theirs = after["covariance"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_a_covariance_of_any_type_is_computed_in_float32(name, dtype):
    past = tf.cast(past_covariance(5), dtype)
    loss, covariance = getattr(objectives, name)(*views(8, 5), past)
    state = {"covariance": tf.cast(past, "float64")}
    wanted_loss, after = expected(name, *views(8, 5), state)
    assert loss.dtype == covariance.dtype == tf.float32
    assert_close(loss, wanted_loss)
    assert_close(covariance, after["covariance"])


@pytest.mark.parametrize("normalize", [False, True])
def test_hybrid_without_the_diagonal_returns_the_whole_covariance(normalize):
    z1, z2 = views(6, 4)
    past, weights = past_covariance(4), dict(invariance=0.0, variance=0.0, normalize=normalize)
    found = {
        diagonal: objectives.vicreg_tico(z1, z2, past, diagonal=diagonal, **weights)
        for diagonal in (True, False)
    }
    np.testing.assert_array_equal(found[True][1], found[False][1])
    rows = unit(z1.astype("float64").tolist()) if normalize else z1.astype("float64").tolist()
    matrix = np.asarray(found[True][1], "float64")
    removed = mean(sum(matrix[i, i] * x**2 for i, x in enumerate(row)) for row in rows)
    assert_close(found[True][0] - found[False][0], removed)


Z = np.ones((4, 3), "float32")
C = np.eye(3, dtype="float32")


@pytest.mark.parametrize("name", NAMES)
def test_bad_beta(name):
    for wrong in (-0.1, 1.1, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"`beta` must .* Received: beta={wrong}$"):
            getattr(objectives, name)(Z, Z, C, beta=wrong)
    for right in (0, 1):
        getattr(objectives, name)(Z, Z, C, beta=right)


@pytest.mark.parametrize("name", NAMES)
def test_bad_covariance(name):
    message = r"`covariance` must .* Received: covariance.shape=\(4, 3\), z1.shape=\(4, 3\)$"
    with pytest.raises(ValueError, match=message):
        getattr(objectives, name)(Z, Z, Z)
    for wrong in (C[0], C[:2, :2], C[None], 1.0):
        with pytest.raises(ValueError, match="`covariance` must"):
            getattr(objectives, name)(Z, Z, wrong)


@pytest.mark.parametrize("make", [objectives.TiCo, objectives.VICRegTiCo])
def test_bad_width(make):
    with pytest.raises(ValueError, match="`width` must be at least 1. Received: width=0"):
        make(0)


@pytest.mark.parametrize("beta", [0.0, 0.7])
def test_the_covariance_may_be_a_constant_to_the_gradient(beta):
    """As in the paper's figure: the loops with this batch's covariance held still."""
    z1, z2 = views(6, 4)
    past, options = past_covariance(4), dict(beta=beta, rho=5.0)
    wanted, after = expected("tico", z1, z2, {"covariance": past}, **options)
    held = after["covariance"]

    def with_held(z1, z2):
        agreement = mean(dot(x, y) for x, y in zip(unit(z1), unit(z2), strict=True))
        return -agreement + 5.0 * contrast(unit(z1), held)

    x1, x2 = tf.constant(z1), tf.constant(z2)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x1, x2])
        loss, covariance = objectives.tico(x1, x2, past, **options, into_covariance=False)
        whole, _ = objectives.tico(x1, x2, past, **options)
    assert_close(loss, wanted)
    assert_close(covariance, held)
    found = tape.gradient(loss, [x1, x2])
    assert_close(found, numeric_gradients(with_held, z1, z2))
    assert np.abs(found[0] - tape.gradient(whole, x1)).max() > 1e-2
    flags = objectives.ObjectiveOptions(objective="tico", tico_into_covariance=False)
    assert objectives.make(flags, 4).into_covariance is False
