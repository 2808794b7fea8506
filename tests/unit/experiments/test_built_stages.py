"""Which stages of a run share networks and traced steps."""

import dataclasses
from types import SimpleNamespace

from helpers.config import parse
from simclrv2_tf.experiments import built_stages

CONFIG = parse("--train_mode=supervised", "--dataset=fashion_mnist_small", "--model_dir=runs/a")


def key(**changes):
    config = dataclasses.replace(CONFIG, **changes)
    return built_stages._key(SimpleNamespace(config=config, directory="runs/a"), [])


def test_stages_of_other_labels_weights_or_schedules_share():
    same = ({"label_fraction": (0.1,)}, {"learning_rate": 0.2}, {"train_epochs": 3})
    for changes in (*same, {"balanced_sampling": True}):
        assert key(**changes) == key()


def test_stages_of_other_networks_or_steps_do_not():
    for changes in ({"resnet_depth": 18}, {"train_batch_size": 8}, {"class_weights": "balanced"}):
        assert key(**changes) != key()


def test_class_weights_are_those_of_the_labels():
    """They are constants of the traced step: with other labels it is another step."""
    balanced = {"class_weights": "balanced"}
    assert key(**balanced) == key(**balanced)
    for changes in ({"label_fraction": (0.1,)}, {"labels_per_class": 4}, {"label_seed": 1}):
        assert key(**balanced, **changes) != key(**balanced)
