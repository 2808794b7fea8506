"""Early stopping: at which evaluation, whatever was killed and resumed before."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from simclrv2_tf.training.patience import StopEarly


def evaluate(stopping, values, begin=0):
    """Gives a value at each epoch's end; returns the epochs until the training stops."""
    for epoch, value in enumerate(values[begin:], start=begin):
        model = SimpleNamespace(optimizer=SimpleNamespace(iterations=tf.constant(10 * epoch + 10)))
        stopping.set_model(model)
        stopping.on_epoch_end(epoch, {} if value is None else {"accuracy": value, "loss": 1.0})
        if getattr(model, "stop_training", False):
            return epoch + 1
    return None


def expected_end(values, patience):
    """By its definition: the largest of all so far came `patience` evaluations before."""
    for end in range(1, len(values) + 1):
        if end - 1 - int(np.argmax(values[:end])) >= patience:
            return end
    return None


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_it_stops_when_the_best_is_long_ago(patience):
    rng = np.random.default_rng(patience)
    for _ in range(20):
        values = (rng.integers(0, 10, 12) / 10).tolist()  # with equal ones
        assert evaluate(StopEarly("accuracy", patience), values) == expected_end(values, patience)


def test_a_resumed_count_goes_on():
    values = [0.5, 0.7, 0.6, 0.7, 0.1, 0.8]
    for begin in range(1, 5):
        killed, resumed = StopEarly("accuracy", 3), StopEarly("accuracy", 3)
        assert evaluate(killed, values[:begin]) is None
        resumed.variable.assign(killed.variable.numpy())
        assert evaluate(resumed, values, begin) == 5
        assert resumed.stopped
        assert resumed.reason == (
            "accuracy has not improved for 3 evaluations, since 0.7 at step 20"
        )


def test_epochs_without_an_evaluation_do_not_count():
    values = [0.5, None, None, 0.4, None, 0.3]
    assert evaluate(StopEarly("accuracy", 2), values) == 6
