"""Labelled stages on a data set whose splits have labels in part."""

import numpy as np
import pytest
import tensorflow as tf

from simclrv2_tf.config import Config
from simclrv2_tf.datasets.sources import ImageDataset
from simclrv2_tf.datasets.splits import IndexedSplit
from simclrv2_tf.experiments import registry
from simclrv2_tf.experiments.data import Data
from simclrv2_tf.experiments.directory import RunError

LABELS = {"train": [0, 1, 0, 1], "extra": [-1, -1], "test": [1, 0], "mixed": [0, -1, 1, -1]}


def select(spec, ranges):
    labels = [x for name, begin, end in ranges for x in LABELS[name][begin:end]]
    ids = [f"{name}{k}" for name, begin, end in ranges for k in range(begin, end)]
    columns = {
        "id": tf.constant(ids),
        "label": tf.constant(labels, tf.int64),
        "image": tf.zeros((len(ids), 8, 8, 3), tf.uint8),
    }
    return IndexedSplit(spec, columns, tf.identity)


@pytest.fixture
def opened():
    """Opens a stage that trains on a split, as far as its data."""
    data = Data(ImageDataset("set", ("a", "b"), {k: len(v) for k, v in LABELS.items()}, select))

    def open_stage(mode, split, **options):
        if mode == "distill":
            options |= {"teacher": "x"}
        config = Config(
            train_mode=mode, dataset="set", train_split=split, train_batch_size=2, **options
        )
        run = object.__new__(registry.stages()[mode])
        run.config, run.data, run.eval_split = config, data, data.evaluated_images(config)
        run.strategy = tf.distribute.get_strategy()
        return run.open()[1]

    return open_stage


ALL = [
    ("supervised", {}),
    ("finetune", {}),
    ("linear_eval", {}),
    ("distill", {"distill_alpha": 0.5}),
]


@pytest.mark.parametrize(("mode", "options"), ALL)
def test_an_unlabelled_part_is_refused_before_training(mode, options, opened):
    for split in ("train+extra", "train[:50%]+extra[1:]"):
        with pytest.raises(
            RunError, match="needs a label for every training image.*extra.* has none"
        ) as e:
            opened(mode, split, **options)
        assert "\n" not in str(e.value) and f"train_split={split}" in str(e.value)
    with pytest.raises(RunError, match="in which mixed lacks some"):
        opened(mode, "train+mixed", **options)
    assert opened(mode, "train+test", **options).num_examples == 6


@pytest.mark.parametrize(("mode", "options"), ALL)
def test_a_label_subset_has_labelled_images_alone(mode, options, opened):
    for split, count in (("train+extra", 4), ("mixed", 2)):
        subset = opened(mode, split, label_fraction=1, **options)
        assert subset.num_examples == count and np.all(subset.labels()[1] >= 0)


def test_without_labels_in_the_loss_nothing_is_refused(opened):
    assert opened("distill", "train+extra") is None
    assert opened("pretrain", "train+extra").num_examples == 6
