"""Variables without values stay without values, and take no memory."""

import keras

from helpers.shapes_only import shapes_only


def test_a_later_scope_gives_them_no_values():
    with shapes_only():
        layer = keras.layers.Dense(4)
        layer.build((None, 3))
    assert layer.kernel.shape == (3, 4)
    keras.layers.Lambda(lambda x: x[:, 0])(keras.Input((2, 3)))  # ends a scope of Keras
    assert layer.kernel._value is None
