"""Splits of every source: what a specification selects, labels, subsets, no labels."""

import numpy as np
import pytest
import tensorflow as tf

from helpers.colored import TRAIN, assert_same, examples_of, ids_of, number_of, take
from simclrv2_tf import datasets


@pytest.mark.parametrize(
    "spec, train, test",
    [
        ("train[:0.1%]", range(10), ()),
        ("test[99%:]", (), range(1980, 2000)),
        ("train[3:5]", (3, 4), ()),
        ("train[-3:]", range(9997, 10000), ()),
        ("train[7:9]+test[:2]", (7, 8), (0, 1)),
    ],
)
def test_split_specifications(packaged, spec, train, test):
    split = packaged.split(spec)
    assert split.num_examples == len(train) + len(test)
    assert ids_of(split) == [f"train/{n}" for n in train] + [f"test/{n}" for n in test]


def test_split_specifications_of_tfds(numbered):
    dataset = numbered["tfds"]
    parts = [dataset.split(spec) for spec in ("train[:40%]", "train[40%:]+test[2:]")]
    assert [part.num_examples for part in parts] == [9, 14 + 5]
    first, second = (set(ids_of(part)) for part in parts)
    assert (len(first), len(second)) == (9, 19) and not first & second
    assert set(ids_of(dataset.split("train"))) < first | second


@pytest.mark.parametrize(
    "spec, message",
    [
        ("dev", "must be composed of train, test"),
        ("train[", "must be composed of train, test"),
        ("", "must be composed of train, test"),
        ("train[:200%]", r"in \[-100, 100\]"),
        ("train[:9999]", "incompatible with 23 examples"),
        ("train[5:5]", "at least one example; there are 23 in train, 7 in test"),
        ("train[80%:20%]", "at least one example"),
    ],
)
def test_bad_split_specifications(numbered, spec, message):
    with pytest.raises(datasets.DatasetError, match=message) as caught:
        numbered["folder"].split(spec)
    assert str(caught.value).endswith(f"Received: split={spec!r}")
    assert "\n" not in str(caught.value)


def test_labels_are_those_of_the_examples_in_order(split, examples):
    ids, labels = split.labels()
    assert ids.shape == labels.shape == (split.num_examples,)
    assert ids.dtype.kind == "U" and labels.dtype == np.int64
    assert ids.tolist() == [example["id"].decode() for example in examples]
    assert labels.tolist() == [example["label"] for example in examples]
    assert len(set(labels.tolist())) > 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_positions_of_shards_are_those_of_their_examples(split, count):
    ids, _ = split.labels()
    for index in range(count):
        records = split.ordered_records((index, count))
        found = [split.load(record, replace_unreadable=False)["id"] for record in records]
        positions = split.shard_positions((index, count))
        assert [name.numpy().decode() for name in found] == ids[list(positions)].tolist()
        assert split.shard_size((index, count)) == len(found)


def test_labels_are_counted_where_that_takes_no_reading(packaged, numbered):
    assert packaged.split("train").num_labels == 10_000
    folder, tfds = (numbered[kind].split("train") for kind in ("folder", "tfds"))
    assert folder.num_labels == TRAIN and tfds.num_labels is None
    assert folder.unlabelled().num_labels == tfds.unlabelled().num_labels == 0


def test_subset_has_its_examples_in_the_order_of_the_split(split, examples):
    chosen = [2, 3, 7, 11, 22]
    wanted = [examples[index]["id"].decode() for index in (22, 7, 3, 2, 7, 11, 22)]
    subset = split.subset(wanted)
    assert subset.num_examples == 5 and subset.labelled
    assert_same(examples_of(subset), [examples[index] for index in chosen])
    ids, labels = subset.labels()
    assert ids.tolist() == [examples[index]["id"].decode() for index in chosen]
    assert labels.tolist() == [examples[index]["label"] for index in chosen]
    # A subset is a split like others, and can be narrowed again.
    again = subset.subset(iter(wanted[1:3]))
    assert again.labels()[0].tolist() == [wanted[2], wanted[1]]


@pytest.mark.parametrize("split", ["folder", "tfds"], indirect=True)
def test_training_on_a_subset(split, examples):
    numbers = range(1, TRAIN, 4)
    subset = split.subset(
        example["id"].decode() for example in examples if example["image"][0, 0, 1] in numbers
    )
    assert subset.num_examples == 6
    options = {"batch_size": 4, "image_size": 8, "seed": 0}
    batches = take(datasets.training_batches(subset, **options), 9)
    for images, labels in batches:
        assert [number % 3 for number in number_of(images)] == labels.tolist()
    stream = sum((number_of(images) for images, _ in batches), [])
    epochs = [stream[begin : begin + 6] for begin in range(0, 36, 6)]
    assert all(sorted(epoch) == list(numbers) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    resumed = datasets.training_batches(subset, start_step=2, cache=True, **options)
    assert_same(take(resumed, 7), batches[2:])

    evaluated = take(datasets.evaluation_batches(subset, batch_size=4, image_size=8), -1)
    assert sum(weight.sum() for *_, weight in evaluated) == 6
    with pytest.raises(datasets.DatasetError, match="6 in a subset of train"):
        datasets.check_batch_size(subset, 7)


@pytest.mark.parametrize(
    "ids, message",
    [
        ([], r"at least one example of train.* Received: ids=\[\]"),
        (
            ["here", "gone", "lost", "gone"],
            "examples of train.* Received: 3 ids, 2 of them not in the split, the first 'gone'",
        ),
        (["gone"], "Received: 1 ids, 1 of them not in the split, the first 'gone'"),
    ],
)
def test_subset_of_what_is_not_there(split, ids, message):
    here = split.labels()[0][5]
    ids = [here if name == "here" else name for name in ids]
    with pytest.raises(datasets.DatasetError, match=message.replace("train", "train.*")) as caught:
        split.subset(ids)
    assert "\n" not in str(caught.value)


def assert_hides_labels(hidden, shown, examples):
    """Compares two splits, of which `shown` has these examples."""
    assert not hidden.labelled and shown.labelled
    assert hidden.num_examples == shown.num_examples
    ids, labels = hidden.labels()
    np.testing.assert_array_equal(ids, shown.labels()[0])
    np.testing.assert_array_equal(labels, np.full(hidden.num_examples, -1))
    for left, right in zip(examples_of(hidden), examples, strict=True):
        assert left["label"] == -1 and right["label"] >= 0
        assert_same({**left, "label": right["label"]}, right)


def test_unlabelled_is_the_same_without_labels(split, examples, trained):
    hidden = split.unlabelled()
    assert_hides_labels(hidden, split, examples)
    shown, options = trained
    # A cached TensorFlow Datasets split has its own order.
    shown_cached = take(datasets.training_batches(split, cache=True, **options), 6)
    for cache, expected in ((False, shown[:6]), (True, shown_cached)):
        batches = take(datasets.training_batches(hidden, cache=cache, **options), 6)
        for (hidden_images, hidden_labels), (images, _) in zip(batches, expected, strict=True):
            np.testing.assert_array_equal(hidden_images, images)
            np.testing.assert_array_equal(hidden_labels, [-1] * 5)
    evaluated = take(datasets.evaluation_batches(hidden, batch_size=4, image_size=8), -1)
    assert all((label == -1).all() for _, label, _ in evaluated)


def test_unlabelled_and_subset_in_either_order(split):
    some = split.labels()[0][[1, 4, 5, 9, 20]]
    subset = split.subset(some)
    examples = examples_of(subset)
    assert_hides_labels(subset.unlabelled(), subset, examples)
    assert_hides_labels(split.unlabelled().subset(some), subset, examples)


def labels_held(split):
    """Columns of integers; a folder also has the place of each file."""
    return [
        name
        for name, column in split._columns.items()
        if column.dtype == tf.int64 and name != "place"
    ]


def test_unlabelled_does_not_hold_labels(packaged, numbered):
    split, folder = packaged.split("train[:23]"), numbered["folder"].split("train")
    for shown in (split, split.subset(["train/3", "train/8"]), folder):
        assert labels_held(shown) == ["label"]
        np.testing.assert_array_equal(shown._columns["label"], shown.labels()[1])
        hidden = shown.unlabelled()
        assert not labels_held(hidden)
        assert all(column is shown._columns[name] for name, column in hidden._columns.items())
    np.testing.assert_array_equal(folder._columns["place"], range(folder.num_examples))
