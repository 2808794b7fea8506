"""Keras variables of given paths, and gradients for them."""

import contextlib

import keras
import numpy as np
import tensorflow as tf


def variable(path, value, dtype="float32"):
    """A Keras variable with that path."""
    *scopes, name = path.split("/")
    with contextlib.ExitStack() as stack:
        for scope in scopes:
            stack.enter_context(keras.name_scope(scope))
        return keras.Variable(value, name=name, dtype=dtype)


def random_variables(*paths, seed=0, dtype="float32"):
    rng = np.random.default_rng(seed)
    return [variable(path, rng.normal(size=(3, 2)).astype("float32"), dtype) for path in paths]


def random_gradients(variables, seed=1):
    rng = np.random.default_rng(seed)
    return [tf.constant(rng.normal(size=v.shape).astype("float32")) for v in variables]
