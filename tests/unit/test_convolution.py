"""The weight gradient by matrix products against TensorFlow's kernel, and loops."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclrv2_tf.convolution import Conv2D, weight_gradient
from simclrv2_tf.processors import faster_operations


def loops(inputs, upstream, size, stride):
    """Of a convolution without padding, in float64, one tap at a time."""
    found = np.zeros((size, size, inputs.shape[3], upstream.shape[3]))
    for i, j, y, x in itertools.product(range(size), range(size), *map(range, upstream.shape[1:3])):
        met = inputs[:, y * stride + i, x * stride + j].astype(np.float64)
        found[i, j] += met.T @ upstream[:, y, x].astype(np.float64)
    return found


@pytest.mark.parametrize("size, stride", [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
@pytest.mark.parametrize("height, width", [(7, 7), (8, 10), (9, 8)])
def test_products_are_the_loops(size, stride, height, width):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(2, height, width, 3)).astype(np.float32)
    shape = (2, (height - size) // stride + 1, (width - size) // stride + 1, 4)
    upstream = rng.normal(size=shape).astype(np.float32)
    found = weight_gradient(tf.constant(inputs), tf.constant(upstream), size, stride, "VALID")
    np.testing.assert_allclose(found, loops(inputs, upstream, size, stride), rtol=1e-4, atol=1e-5)


def gradients(layer, images, inside):
    with tf.GradientTape() as tape:
        tape.watch(images)
        if inside:
            with faster_operations():
                outputs = layer(images)
        else:
            outputs = layer(images)
        loss = tf.reduce_sum(tf.sin(tf.cast(outputs, tf.float32)))
    return [outputs, *tape.gradient(loss, [images, layer.kernel.value])]


@pytest.mark.parametrize("policy, tolerance", [("float32", 1e-5), ("mixed_bfloat16", 1e-2)])
@pytest.mark.parametrize(
    "size, stride, padding, height",
    [(1, 1, "same", 9), (1, 2, "valid", 5), (3, 1, "same", 1), (3, 1, "same", 4)]
    + [(3, 2, "valid", 5), (3, 2, "valid", 10), (3, 1, "same", 40), (3, 1, "valid", 6)],
)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
def test_the_layer_is_keras_conv2d(size, stride, padding, height, policy, tolerance, compiled):
    layer = Conv2D(8, size, stride, padding, use_bias=False, dtype=policy)
    images = tf.random.stateless_normal((2, height, height, 64), (1, 2))
    layer.build(images.shape)
    run = tf.function(gradients) if compiled else gradients
    for ours, kerass in zip(run(layer, images, True), run(layer, images, False), strict=True):
        ours, kerass = (tf.cast(x, tf.float32).numpy() for x in (ours, kerass))
        scale = np.abs(kerass).max()
        np.testing.assert_allclose(ours / scale, kerass / scale, rtol=0, atol=tolerance)


def test_the_gradient_is_by_products_inside_the_context_alone():
    layer = Conv2D(8, 3, padding="same", use_bias=False)
    layer.build((2, 4, 4, 64))
    images = tf.zeros((2, 4, 4, 64))

    def kinds(inside):
        traced = tf.function(lambda x: gradients(layer, x, inside)).get_concrete_function(images)
        return [operation.type for operation in traced.graph.get_operations()]

    assert "Conv2DBackpropFilter" in kinds(False)
    assert "Conv2DBackpropFilter" not in kinds(True) and kinds(True).count("MatMul") == 9


@pytest.mark.parametrize(
    "options",
    [
        {"groups": 2},
        {"dilation_rate": 2},
        {"kernel_size": (3, 1)},
        {"kernel_size": 2},  # padded on only one side
        {"strides": 2},
        {"strides": 3, "padding": "valid"},
        {"strides": (1, 2), "padding": "valid"},
        {"use_bias": True},
    ],
    ids=str,
)
def test_every_layer_that_keras_takes_has_keras_gradient(options):
    layer = Conv2D(
        **{"filters": 8, "kernel_size": 3, "padding": "same", "use_bias": False} | options
    )
    images = tf.random.stateless_normal((2, 7, 7, 64), (1, 2))
    layer.build(images.shape)
    for inside, outside in zip(
        gradients(layer, images, True), gradients(layer, images, False), strict=True
    ):
        np.testing.assert_allclose(inside, outside, rtol=1e-4, atol=1e-5)


def test_images_of_unknown_size_are_left_to_tensorflow():
    layer = Conv2D(8, 3, padding="same")
    with faster_operations():
        assert layer(keras.Input((None, None, 64))).shape == (None, None, None, 8)
