"""Batch norm against the formula, and its gradient against the unfused operations."""

import contextlib
import functools

import numpy as np
import pytest
import tensorflow as tf

from simclrv2_tf import processors
from simclrv2_tf.batch_norm import BatchNorm, _moments


def loop_batch_norm(x, gamma, beta, epsilon):
    """Over all but the last axis, in float64, one channel at a time."""
    out, means, variances = np.empty(x.shape), [], []
    for c in range(x.shape[-1]):
        column = x[..., c].astype(np.float64)
        means.append(column.mean())
        variances.append(((column - column.mean()) ** 2).mean())
        out[..., c] = (column - means[-1]) / np.sqrt(variances[-1] + epsilon) * gamma[c] + beta[c]
    return out, np.array(means), np.array(variances)


@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 3, 3), (1, 1, 2, 3), (1, 3)])
@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_batch_norm_is_the_formula(shape, mean):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=shape) + mean).astype(np.float32)
    layer = BatchNorm(momentum=0.75)
    layer.build(shape)
    gamma, beta = rng.normal(size=(2, 3)).astype(np.float32)
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    expected, means, variances = loop_batch_norm(x, gamma, beta, 1e-5)
    # One unit in the last place of a mean of 1000 is 6e-5, which the division scales.
    tolerance = 2e-6 if mean == 0 else 2e-2 if shape[0] == 1 else 2e-3
    np.testing.assert_allclose(layer(x, training=True), expected, atol=tolerance)
    np.testing.assert_allclose(layer.moving_mean, 0.25 * means, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        layer.moving_variance, 0.75 + 0.25 * variances, rtol=1e-5, atol=1e-5 + 1e-6 * mean
    )
    moving = (np.asarray(layer.moving_mean), np.asarray(layer.moving_variance))
    inference = (x - moving[0]) / np.sqrt(moving[1] + 1e-5) * gamma + beta
    np.testing.assert_allclose(layer(x), inference, rtol=1e-4, atol=1e-4)
    assert np.array_equal(moving[0], layer.moving_mean), "inference must not move the statistics"


@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 3, 3)])
@pytest.mark.parametrize("training", [True, False])
def test_without_scale_or_shift_it_normalizes_alone(shape, training):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    layer = BatchNorm(center=False, scale=False)
    outputs = layer(x, training=training)
    zeros, ones = np.zeros(3), np.ones(3)
    expected = loop_batch_norm(x, ones, zeros, 1e-5)[0] if training else x / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(outputs, expected, atol=2e-6)
    assert [v.name for v in layer.weights] == ["moving_mean", "moving_variance"]
    assert BatchNorm.from_config(layer.get_config()).scale is False


def test_fused_batch_norm_and_its_gradient_equal_the_unfused():
    x = tf.constant(np.random.default_rng(0).normal(size=(4, 3, 3, 2)).astype(np.float32))
    layer = BatchNorm()
    layer.build(x.shape)
    gradients = []
    for inputs in (x, tf.cast(x, tf.float64)):  # the kernel takes no float64
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = (
                layer(inputs, training=True)
                if inputs is x
                else tf.cast(layer._normalize(inputs, *_moments(inputs))[0], tf.float32)
            )
            loss = tf.reduce_sum(tf.sin(outputs) * tf.stop_gradient(tf.cast(x, outputs.dtype)))
        gradients.append(tape.gradient(loss, [inputs, layer.gamma.value, layer.beta.value]))
    for fused, plain in zip(*gradients, strict=True):
        np.testing.assert_allclose(fused, plain, atol=2e-5)


@pytest.fixture
def without_avx512(monkeypatch):
    """Imitates a processor with AVX2 and no AVX-512."""
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")


@pytest.mark.parametrize(
    "shape", [(6, 5), (1, 3), (4, 3, 3, 2), (2, 1, 1, 200), (4, 8, 8, 16), (3, 5, 7, 48)]
)
@pytest.mark.parametrize("center", [True, False])
def test_by_products_equals_the_fused_kernel(without_avx512, shape, center):
    rng = np.random.default_rng(0)
    x, weights = (tf.constant((rng.normal(size=shape) + 3).astype(np.float32)) for _ in range(2))
    found = []
    for faster in (contextlib.nullcontext, processors.faster_operations):
        layer = BatchNorm(center=center)
        layer.build(shape)
        layer.gamma.assign(np.linspace(0.5, 2, shape[-1]))
        # A batch of unknown size, as when a network is traced for any.
        call = tf.function(
            functools.partial(layer, training=True),
            input_signature=[tf.TensorSpec((None, *shape[1:]))],
        )
        with faster(), tf.GradientTape() as tape:
            tape.watch(x)
            outputs = call(x)
            loss = tf.reduce_sum(tf.sin(outputs) * weights)
        operations = {node.type for node in call.get_concrete_function().graph.get_operations()}
        assert ("FusedBatchNormV3" in operations) == (faster is contextlib.nullcontext)
        sources = [x, *layer.trainable_variables]
        gradients = tape.gradient(loss, [getattr(v, "value", v) for v in sources])
        found.append((outputs, layer.moving_mean.value, layer.moving_variance.value, *gradients))
    for fused, plain in zip(*found, strict=True):
        np.testing.assert_allclose(plain, fused, rtol=1e-4, atol=2e-4)


def test_by_products_is_the_formula_at_large_means(without_avx512):
    x = (np.random.default_rng(0).normal(size=(8, 4, 4, 3)) + 1000).astype(np.float32)
    layer = BatchNorm(momentum=0.0)
    layer.build(x.shape)
    with processors.faster_operations():
        outputs = layer(x, training=True)
    expected, means, variances = loop_batch_norm(x, np.ones(3), np.zeros(3), 1e-5)
    np.testing.assert_allclose(outputs, expected, atol=2e-3)
    np.testing.assert_allclose(layer.moving_mean, means, rtol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, variances, rtol=1e-3)


@pytest.mark.parametrize(
    "flags, limit, expected",
    [
        ({"avx2", "fma"}, None, False),
        ({"avx2", "avx512f", "avx512bw"}, None, True),
        ({"avx2", "avx512f", "avx512bw"}, "AVX2", False),
        ({"avx2", "avx512f", "avx512bw"}, "avx512_core", True),
        (set(), None, True),
        ({"neon", "bf16"}, None, True),
    ],
)
def test_processors_without_avx512(monkeypatch, flags, limit, expected):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    if limit:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert processors.has_avx512(flags) is expected


def test_batch_norm_in_bfloat16_keeps_float32_statistics():
    x = (np.random.default_rng(0).normal(size=(64, 8)) * 3 + 1).astype(np.float32)
    layer = BatchNorm(dtype="mixed_bfloat16", momentum=0.0)
    outputs = layer(x, training=True)
    assert outputs.dtype == tf.bfloat16
    rounded = tf.cast(tf.cast(x, tf.bfloat16), tf.float32).numpy()
    assert layer.moving_mean.dtype == "float32"
    np.testing.assert_allclose(layer.moving_mean, rounded.mean(0), atol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, rounded.var(0), rtol=1e-5)


def test_frozen_batch_norm_uses_moving_statistics_in_training():
    x = np.ones((4, 2), np.float32) * 5
    layer = BatchNorm()
    layer(x)
    layer.trainable = False
    np.testing.assert_allclose(layer(x, training=True), 5 / np.sqrt(1 + 1e-5), rtol=1e-6)
    np.testing.assert_array_equal(layer.moving_mean, 0)
