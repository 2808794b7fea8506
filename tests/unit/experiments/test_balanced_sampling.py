"""Balanced sampling in the stages that learn from labels."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from helpers.config import parse
from simclrv2_tf.experiments.classification import Supervised
from simclrv2_tf.experiments.data import open_data
from simclrv2_tf.experiments.distill import Distillation
from simclrv2_tf.experiments.stage import Seams


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """Supervised training on 30 + 12 images, of which a tenth of each class validates."""
    root = tmp_path_factory.mktemp("unequal")
    for split, sizes in (("train", (30, 12)), ("test", (2, 2))):
        for name, count in zip(("common", "rare"), sizes, strict=True):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                image = Image.new("RGB", (10, 10), (i, 0, 200 * (name == "rare")))
                image.save(root / split / name / f"{i}.png")
    flags = ["--train_mode=supervised", "--eval_epochs=1", "--image_size=8", "--antialias=False"]
    flags += ["--train_batch_size=8", "--train_epochs=3", f"--dataset=folder:{root}"]

    def make(kind, *more):
        config = parse(*flags, f"--model_dir={root}/run", *more)
        return kind(config, open_data(config), tf.distribute.get_strategy(), False, Seams())

    return make


def test_each_class_is_as_frequent_and_epochs_are_as_long(stage):
    plain, balanced = stage(Supervised), stage(Supervised, "--balanced_sampling")
    assert balanced.train_split.num_examples == 27 + 11
    assert balanced.total_steps == plain.total_steps == 38 * 3 // 8 + 1
    assert sorted(balanced.validation_split.labels()[1]) == [0, 0, 0, 1]
    assert "42 labels, each class drawn equally often" in balanced.in_words
    context = tf.distribute.InputContext()
    batches = balanced.batches(context, 0).take(10).as_numpy_iterator()
    images, labels = map(np.concatenate, zip(*batches, strict=True))
    assert np.bincount(labels[:38]).tolist() == [19, 19]
    np.testing.assert_array_equal(images[:, 3, 3, 2] > 0.5, labels == 1)
    numbers = np.rint(images[:38, 3, 3, 0] * 255).astype(int)
    of_rare = np.unique(numbers[labels[:38] == 1], return_counts=True)[1]
    assert len(of_rare) == 11 and of_rare.max() == 2


def test_distillation_balances_its_labelled_images_alone(stage):
    flags = ["--train_mode=distill", "--teacher=there", "--distill_alpha=0.5"]
    distillation = stage(Distillation, *flags, "--balanced_sampling")
    counts = []
    for split in (distillation.train_split, distillation.labelled_split):
        records = split.shuffled_records(seed=0, shard=(0, 1), start=0, buffer_size=1).take(42)
        ids, _ = split.labels()
        drawn = ids[list(records.as_numpy_iterator())].tolist()
        counts.append(sum("rare" in name for name in drawn))
    assert counts == [12, 21]
