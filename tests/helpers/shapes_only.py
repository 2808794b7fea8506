"""Networks whose variables have shapes and no values, for networks that do not fit in memory."""

import contextlib

import keras
from keras.src.backend.common import global_state


@contextlib.contextmanager
def shapes_only():
    """Builds networks without values of their variables.

    Keras keeps a list of such variables, and the next scope that ends, of a Lambda layer for
    instance, would give values to all of them: up to 13 GB after the networks of the paper.
    """
    with keras.StatelessScope(initialize_variables=False):
        yield
    global_state.set_global_attribute("uninitialized_variables", [])
