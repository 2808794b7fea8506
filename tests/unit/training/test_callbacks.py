"""Callbacks: measures of collapse in the logs, and one warning of a collapse."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers.stages import batches_from, conv_encoder, pretrainer
from simclrv2_tf import metrics
from simclrv2_tf.batch_norm import BatchNorm
from simclrv2_tf.training import callbacks, loop


def train(stage, every_steps, total_steps=4):
    """Trains with `Health`; returns what the logs of every batch and epoch held."""
    strategy = tf.distribute.get_strategy()
    seen = {"batch": [], "epoch": []}

    class Seen(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen["batch"].append(dict(logs))

        def on_epoch_end(self, epoch, logs=None):
            seen["epoch"].append(dict(logs))

    representations = loop.gather(stage.representations, strategy, batches_from(6))

    def measure():
        return metrics.measure(*representations())

    loop.train(
        stage,
        strategy,
        batches_from(6),
        schedule=lambda step: 0.1,
        total_steps=total_steps,
        epochs=2,
        callbacks=[callbacks.Health(measure, every_steps, settled_after=3), Seen()],
        verbose=0,
    )
    return seen


@pytest.fixture
def warnings(monkeypatch):
    found = []
    monkeypatch.setattr(callbacks.logging, "warning", lambda text, *args: found.append(text % args))
    return found


def test_numbers_are_logged_and_a_healthy_network_gives_no_warning(warnings):
    stage = pretrainer(encoder=conv_encoder)
    for layer in (*stage.encoder.layers, *stage.head.layers):
        if isinstance(layer, BatchNorm):
            layer.momentum = 0.2  # with which statistics have settled when they are judged
    assert metrics.settled_after(0.2) == 3
    seen = train(stage, 1)
    names = {"representation_rank", "embedding_spread", "alignment", "uniformity"}
    assert all(names <= logs.keys() for logs in (*seen["batch"], *seen["epoch"]))
    assert not warnings


def test_without_an_interval_numbers_are_of_epochs(warnings):
    seen = train(pretrainer(encoder=conv_encoder), 0)
    assert all("alignment" in logs for logs in seen["epoch"])
    assert not any("alignment" in logs for logs in seen["batch"])


def test_a_constant_encoder_gives_one_warning_within_an_interval(warnings):
    stage = pretrainer(encoder=conv_encoder)
    for variable in stage.encoder.weights:
        if variable.path.endswith(("gamma", "beta")):
            variable.assign(np.zeros(variable.shape))
            variable.trainable = False
    stage.optimizer.built = False
    stage.compile(type(stage.optimizer)(0.0), jit_compile=False)
    stage.optimizer.build(stage.trainable_variables)
    train(stage, 2)
    [warning] = warnings
    assert "Collapse at step 2" in warning and "one point" in warning


class Store:
    """Notes the steps at which it is asked to save."""

    def __init__(self):
        self.steps = []

    def save(self, step):
        self.steps.append(step)


@pytest.mark.parametrize(
    "minutes, clock, agree, expected",
    [
        (0, 100, int, [3, 6]),
        (2, 100, int, [2, 3, 5, 6]),  # two steps of 100 seconds are over two minutes
        (1, 100, int, [1, 2, 3, 4, 5, 6]),
        (1, 100, lambda late: 0, [3, 6]),  # other workers say no
        (1000, 1, lambda late: 1, [1, 2, 3, 4, 5, 6]),  # another worker says yes
    ],
)
def test_checkpoints_by_the_clock(monkeypatch, minutes, clock, agree, expected):
    """Each step advances the clock by `clock` seconds; epochs have three steps."""
    stage, store = pretrainer(), Store()
    seconds = SimpleNamespace(monotonic=lambda: clock * int(stage.optimizer.iterations.numpy()))
    monkeypatch.setattr(callbacks, "time", seconds)
    saving = callbacks.SaveCheckpoints(store, 0, 1, every_minutes=minutes, agree=agree)
    loop.train(
        stage,
        tf.distribute.get_strategy(),
        batches_from(6),
        schedule=lambda step: 0.1,
        total_steps=6,
        epochs=2,
        callbacks=[saving],
        verbose=0,
    )
    assert store.steps == expected
