"""Which stages of a run share an input pipeline."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from helpers.config import parse
from simclrv2_tf.experiments.data import Batches, open_data, without_labels

CONFIG = parse("--train_mode=supervised", "--dataset=fashion_mnist_small", "--model_dir=runs/a")
CONTEXT = tf.distribute.InputContext()


@pytest.fixture(scope="module")
def data():
    return open_data(CONFIG)


def batches(**changes):
    return Batches(dataclasses.replace(CONFIG, antialias=False, **changes), CONTEXT)


def test_stages_that_read_alike_share_a_pipeline(data):
    train, test = data.main.split("train"), data.main.split("test")
    crops = batches().crops(train, 4)
    for changes in ({"learning_rate": 0.5}, {"model_dir": "runs/b"}, {"train_mode": "linear_eval"}):
        assert batches(**changes).crops(train, 4) is crops
    for changes in ({"seed": 1}, {"image_size": 20}, {"flip": "none"}, {"min_crop_area": 0.5}):
        assert batches(**changes).crops(train, 4) is not crops
    assert batches().crops(train, 8) is not crops and batches().crops(train, 4, 1) is not crops
    assert batches().views(train, 4) is not crops
    evaluation = batches().evaluation(test, 4)
    assert batches(seed=1).evaluation(data.main.split("test"), 4) is evaluation
    assert batches().evaluation(data.main.split("test[:9]"), 4) is not evaluation
    # Images in memory leave it with the stage.
    cached = batches(cache_dataset=True)
    assert cached.crops(train, 4) is not cached.crops(train, 4)


def test_a_shared_pipeline_begins_anew(data):
    split = without_labels(data.main.split("train[:50]"))
    assert split is without_labels(data.main.split("train[:50]"))
    shared = batches().crops(split, 4)
    first, again = ([image.numpy() for image, _ in shared.take(3)] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    alone = [image.numpy() for image, _ in batches(cache_dataset=True).crops(split, 4).take(3)]
    np.testing.assert_array_equal(first, alone)


def test_other_examples_have_pipelines_of_their_own(data):
    split = data.main.split("train[:50]")
    crops = batches().crops(split, 4)
    others = (split.subset(split.labels()[0][:20].tolist()), split.unlabelled(), split.balanced())
    for other in others:
        assert batches().crops(other, 4) is not crops
