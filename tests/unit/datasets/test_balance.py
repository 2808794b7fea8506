"""Balanced sampling: how often classes and examples are drawn, and that only positions decide."""

import numpy as np
import pytest
import tensorflow as tf

from helpers.colored import take
from simclrv2_tf import datasets
from simclrv2_tf.datasets.balance import balanced_order
from simclrv2_tf.datasets.labels import balanced_weights
from simclrv2_tf.datasets.splits import ORDER, IndexedSplit, seed_for

# Classes of 17, 5 and 1 examples, mixed; the ids of classes need not be 0, 1, 2.
SIZES = {7: 17, 0: 5, 3: 1}
LABELS = np.random.default_rng(0).permutation(np.repeat(list(SIZES), list(SIZES.values())))


def epochs_of(labels, count, seed=0):
    labels = tf.constant(labels, tf.int64)
    draw = tf.function(lambda e: balanced_order(labels, e, seed_for(seed, ORDER, e)))
    return [draw(tf.constant(epoch, tf.int64)).numpy() for epoch in range(count)]


def within_one(counts):
    return max(counts) - min(counts) <= 1


def test_classes_and_their_examples_are_drawn_equally_often():
    epochs = epochs_of(LABELS, 4)
    assert len({tuple(order) for order in epochs}) == 4
    total = dict.fromkeys(SIZES, 0)
    for order in epochs:
        assert order.dtype == np.int64 and len(order) == len(LABELS) == 23
        times = np.bincount(order, minlength=23)
        for label in SIZES:
            assert times[LABELS == label].sum() in (23 // 3, 23 // 3 + 1)
            assert within_one(times[LABELS == label])
            total[label] += times[LABELS == label].sum()
        # Classes do not follow each other by a rule, which replicas would see.
        assert len({*(LABELS[order[:-3]] - LABELS[order[3:]]).tolist()}) > 1
    assert within_one(total.values())


def test_equal_classes_are_each_drawn_once():
    (order,) = epochs_of([2, 1, 0, 1, 0, 2], 1)
    assert sorted(order.tolist()) == list(range(6))


def test_the_loss_is_that_of_class_weights_in_the_mean():
    """The two corrections are of one expectation, and so exclude each other."""
    losses = np.random.default_rng(1).uniform(size=23)
    drawn = np.mean([losses[order].mean() for order in epochs_of(LABELS, 300)])
    dense = np.unique(LABELS, return_inverse=True)[1]
    np.testing.assert_allclose(
        drawn, np.mean(losses * balanced_weights(dense, 3)[dense]), rtol=0.01
    )


def records_of(start, shard, count):
    """The indices that a shard of the unequal classes draws."""
    columns = {"id": tf.constant([str(i) for i in range(23)]), "label": tf.constant(LABELS)}
    split = IndexedSplit("unequal", columns, decode=None).balanced()
    records = split.shuffled_records(seed=3, shard=shard, start=start, buffer_size=4)
    return [int(index) for index in take(records, count)]


def test_an_epoch_is_as_long_as_without():
    labels = LABELS[records_of(0, (0, 1), 46)]
    for epoch in (labels[:23], labels[23:]):
        assert sorted(np.unique(epoch, return_counts=True)[1]) == [7, 8, 8]


@pytest.mark.parametrize("start", [5, 23, 40])
def test_a_start_is_what_it_skips(start):
    assert records_of(start, (0, 1), 10) == records_of(0, (0, 1), 50)[start:][:10]


@pytest.mark.parametrize("count", [2, 3])
def test_shards_take_turns_in_one_order(count):
    parts = [records_of(4, (index, count), 12) for index in range(count)]
    dealt = [index for turn in zip(*parts, strict=True) for index in turn]
    assert dealt == records_of(4 * count, (0, 1), 12 * count)


def test_what_cannot_be_balanced_is_refused(numbered):
    split = numbered["tfds"].split("train")
    with pytest.raises(datasets.DatasetError, match="read in order.*--class_weights=balanced"):
        split.balanced()
    ids, _ = split.labels()
    assert split.subset(ids[:5]).balanced().num_examples == 5
    with pytest.raises(datasets.DatasetError, match="have no label"):
        numbered["folder"].split("train").unlabelled().balanced()
