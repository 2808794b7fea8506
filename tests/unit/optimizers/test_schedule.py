"""The learning rate schedule against the recorded reference and its formula."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import oracle
from simclrv2_tf import optimizers
from simclrv2_tf.optimizers import VariableWarmupCosine, WarmupCosine


@pytest.mark.parametrize("case", range(4))
def test_schedule_is_the_references(case):
    recorded = oracle.load("schedule.npz")
    get = lambda key: recorded[f"{case}/{key}"].item()  # noqa: E731
    num_examples, batch_size = get("num_examples"), get("batch_size")
    total = optimizers.total_steps(num_examples, get("epochs"), batch_size)
    assert total == get("total_steps")
    schedule = WarmupCosine(
        optimizers.peak_learning_rate(get("base_learning_rate"), batch_size, get("scaling")),
        optimizers.warmup_steps(num_examples, get("warmup_epochs"), batch_size),
        total,
    )
    rates = [float(schedule(tf.constant(step))) for step in recorded[f"{case}/steps"]]
    np.testing.assert_allclose(rates, recorded[f"{case}/values"], rtol=0, atol=1e-6)


def cosine(peak, warmup, total, step):
    """The schedule in float64."""
    if step < warmup:
        return peak * step / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def test_schedule_keeps_its_digits_late_in_long_runs():
    schedule = WarmupCosine(6.4, 62_500, 1_250_000)
    for step in (1, 62_499, 62_500, 62_501, 1_000_000, 1_000_001, 1_249_000):
        for value in (step, tf.constant(step, tf.int64), tf.Variable(step)):
            rate = schedule(value)
            assert rate.dtype == tf.float32
            np.testing.assert_allclose(rate, cosine(6.4, 62_500, 1_250_000, step), rtol=1e-6)
    # One plus a cosine would give 0 in float32 here.
    np.testing.assert_allclose(schedule(1_249_999), 6.4 * (math.pi / 2 / 1_187_500) ** 2, rtol=1e-6)


@pytest.mark.parametrize(
    "warmup, total, expected",
    [
        (0, 4, [1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5, 0, 0]),
        (2, 4, [0, 0.5, 1, 0.5, 0, 0]),
        (8, 4, [0, 0.125, 0.25, 0.375]),  # a ramp longer than the run
        (4, 4, [0, 0.25, 0.5, 0.75, 0, 0]),
        (0, 0, [0, 0]),
    ],
)
def test_short_schedules(warmup, total, expected):
    schedule = WarmupCosine(1.0, warmup, total)
    rates = [float(schedule(step)) for step in range(len(expected))]
    np.testing.assert_allclose(rates, expected, atol=1e-7)


def test_one_traced_function_follows_several_schedules():
    schedules = [WarmupCosine(3.2, 10, 100), WarmupCosine(0.1, 0, 7), WarmupCosine(6.4, 9, 4)]
    in_variables = VariableWarmupCosine(schedules[-1])
    traced = tf.function(in_variables)
    for schedule in schedules:
        in_variables.follow(schedule)
        for step in (0, 3, 9, 10, 40, 1_000):
            assert traced(tf.constant(step, tf.int64)) == schedule(tf.constant(step, tf.int64))
    assert traced.experimental_get_tracing_count() == 1
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(in_variables)))
    assert keras.saving.deserialize_keras_object(config)(3) == schedules[-1](3)


def test_schedule_in_a_graph_and_from_its_configuration():
    original = WarmupCosine(3.2, 10, 100)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(original)))
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.get_config() == original.get_config()
    for schedule in (tf.function(original), tf.function(copy)):
        np.testing.assert_allclose(schedule(tf.constant(40)), cosine(3.2, 10, 100, 40), rtol=1e-6)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((-1.0, 0, 1), "`peak` .* Received: peak=-1.0"),
        ((float("nan"), 0, 1), "`peak`"),
        ((1.0, -1, 1), "`warmup_steps`"),
        ((1.0, 0.5, 1), "`warmup_steps`"),
        ((1.0, 0, -1), "`total_steps`"),
    ],
)
def test_bad_schedules(arguments, message):
    with pytest.raises(ValueError, match=message):
        WarmupCosine(*arguments)


def test_peak_learning_rate():
    # The papers' own figures: 0.3 * 4096 / 256, and 0.1 * sqrt(4096).
    assert optimizers.peak_learning_rate(0.3, 4096, "linear") == pytest.approx(4.8)
    assert optimizers.peak_learning_rate(0.1, 4096, "sqrt") == pytest.approx(6.4)
    with pytest.raises(ValueError, match="`scaling` .* Received: scaling='cubic'"):
        optimizers.peak_learning_rate(0.1, 4096, "cubic")
    with pytest.raises(ValueError, match="`batch_size`"):
        optimizers.peak_learning_rate(0.1, 0, "linear")


def test_step_counts():
    # ImageNet, 100 epochs of which 10 of warm-up.
    assert optimizers.total_steps(1_281_167, 100, 4096) == 31_279
    assert optimizers.warmup_steps(1_281_167, 10, 4096) == 3_127
    assert optimizers.warmup_steps(1_000, 0.5, 256) == 1
    assert optimizers.total_steps(512, 1, 256) == 3


def test_a_rate_held_at_its_peak_warms_up_and_stays():
    for schedule in (WarmupCosine(0.4, 4, 10), VariableWarmupCosine(WarmupCosine(0.4, 4, 10))):
        held = optimizers.HeldAtPeak(schedule)
        rates = [float(held(tf.constant(step))) for step in range(12)]
        np.testing.assert_allclose(rates, [0, 0.1, 0.2, 0.3] + [0.4] * 8, rtol=1e-6)
        again = optimizers.HeldAtPeak.from_config(held.get_config())
        assert float(again(tf.constant(7))) == pytest.approx(0.4)
    schedule.follow(WarmupCosine(0.2, 0, 5))
    assert float(held(tf.constant(3))) == pytest.approx(0.2)
