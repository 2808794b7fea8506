"""Keras variables of given paths."""

import contextlib

import keras


def variable(path, value, dtype="float32"):
    """A Keras variable with that path."""
    *scopes, name = path.split("/")
    with contextlib.ExitStack() as stack:
        for scope in scopes:
            stack.enter_context(keras.name_scope(scope))
        return keras.Variable(value, name=name, dtype=dtype)
