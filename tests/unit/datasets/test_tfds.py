"""TensorFlow Datasets: only prepared data is read, and only the requested splits."""

import socket

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core.utils import gcs_utils

from helpers.colored import (
    TEST,
    TRAIN,
    assert_same,
    examples_of,
    ids_of,
    prepare,
    take,
)
from simclrv2_tf import datasets


@pytest.fixture
def own_tfds(tmp_path):
    """A data set of which a test may spoil the files."""
    examples = [(n, {"image": np.full((2, 3, 3), n, np.uint8), "label": n % 2}) for n in range(9)]
    features = {
        "image": tfds.features.Image(shape=(2, 3, 3)),
        "label": tfds.features.ClassLabel(num_classes=2),
    }
    prepare(tmp_path, "own_images", features, {"train": examples}, 2)
    return datasets.open_dataset("own_images", data_dir=str(tmp_path)), tmp_path


def as_labels(split):
    """What `labels` must return, from the examples."""
    examples = examples_of(split)
    return [e["id"].decode() for e in examples], [int(e["label"]) for e in examples]


def test_tfds_set_that_exists_only_on_disk(numbered):
    dataset = numbered["tfds"]
    assert dataset.splits == {"train": TRAIN, "test": TEST}
    assert dataset.class_names == ("a", "b", "c")
    examples = examples_of(dataset.split("train"))
    assert len({example["id"] for example in examples}) == TRAIN
    assert {int(example["image"][0, 0, 1]) for example in examples} == set(range(TRAIN))
    for example in examples:
        number = int(example["image"][0, 0, 1])
        assert example["label"] == number % 3 and example["image"].shape == (8, 8 + number, 3)
    # Ids do not depend on how the split was asked for.
    by_number = {int(example["image"][0, 0, 1]): example["id"] for example in examples}
    for example in examples_of(dataset.split("train[7:19]")):
        assert example["id"] == by_number[int(example["image"][0, 0, 1])]


def test_tfds_gray_unlabelled_and_odd_names(tmp_path):
    image = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    features = {
        "picture": tfds.features.Image(shape=(8, 8, 1)),
        "n": tfds.features.Scalar(np.int64),
    }
    prepare(tmp_path, "gray_images", features, {"train": [(0, {"picture": image, "n": 3})]}, 1)
    dataset = datasets.open_dataset("gray_images:1.0.0", data_dir=str(tmp_path))
    assert dataset.num_classes == 0 and dataset.default_eval_split is None
    (example,) = examples_of(dataset.split("train"))
    np.testing.assert_array_equal(example["image"], np.repeat(image, 3, axis=2))
    assert example["label"] == -1


@pytest.mark.parametrize(
    "features, example",
    [
        ({"text": tfds.features.Text()}, {"text": "words"}),
        (
            {"image": tfds.features.Image(shape=(2, 2, 1), dtype=np.float32)},
            {"image": np.zeros((2, 2, 1), np.float32)},
        ),
    ],
)
def test_tfds_without_usable_images_names_the_features(tmp_path, features, example):
    prepare(tmp_path, "no_images", features, {"train": [(0, example)]}, 1)
    with pytest.raises(datasets.DatasetError, match="one image feature of 8 or 16 bits") as caught:
        datasets.open_dataset("no_images", data_dir=str(tmp_path))
    assert next(iter(features)) in str(caught.value) and "\n" not in str(caught.value)


def test_tfds_with_a_missing_file(tmp_path):
    features = {"image": tfds.features.Image(shape=(2, 2, 3))}
    image = np.zeros((2, 2, 3), np.uint8)
    prepare(tmp_path, "torn_images", features, {"train": [(0, {"image": image})]}, 1)
    (record_file,) = tmp_path.rglob("*.tfrecord*")
    record_file.unlink()
    with pytest.raises(datasets.DatasetError, match=f"{record_file.name} is missing"):
        datasets.open_dataset("torn_images", data_dir=str(tmp_path))


@pytest.mark.parametrize(
    "name, message",
    [
        ("cifar10", "must be prepared on disk.* tfds build cifar10 --data_dir"),
        ("imagenet2012_subset/1pct", "tfds build imagenet2012_subset/1pct"),
        ("color_images/other_config", "must be prepared on disk"),
        ("color_images:2.0.0", "must be prepared on disk"),
        ("cifr10", "did you mean cifar10"),
        ("color_imagse", "did you mean color_images"),
        ("fashion_mnist_smal", "did you mean fashion_mnist_small"),
        ("qqqqqqqqqq", "qqqqqqqqqq is none of these. Received"),
        ("huggingface:mnist", "is none|must be prepared"),
        ("not a name!", "or a TensorFlow Datasets name"),
        ("", "or a TensorFlow Datasets name"),
        ("folder:", "must be folder:PATH"),
    ],
)
def test_unavailable_names_fail_without_network(tfds_dir, monkeypatch, name, message):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(gcs_utils, "exists", refuse)
    monkeypatch.setattr(gcs_utils, "_is_gcs_disabled", False)
    with pytest.raises(datasets.DatasetError, match=message) as caught:
        datasets.open_dataset(name, data_dir=str(tfds_dir))
    assert "\n" not in str(caught.value)


def test_a_folder_with_a_similar_name_is_suggested(tfds_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "phtosx").touch()
    with pytest.raises(datasets.DatasetError, match=r"did you mean folder:photos\b"):
        datasets.open_dataset("phtos", data_dir=str(tfds_dir))


def rewrite_records(root, change):
    """Applies `change` to the features of each stored TFDS example."""
    for path in map(str, root.rglob("*.tfrecord*")):
        changed = []
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            example = tf.train.Example.FromString(record)
            change(example.features.feature)
            changed.append(example.SerializeToString())
        with tf.io.TFRecordWriter(path) as writer:
            for record in changed:
                writer.write(record)


def test_labels_of_tfds_read_no_image(own_tfds):
    dataset, root = own_tfds
    split = dataset.split("train")
    expected = as_labels(split)
    rewrite_records(root, lambda features: features.pop("image"))
    ids, labels = split.labels()
    assert (ids.tolist(), labels.tolist()) == expected
    with pytest.raises(tf.errors.OpError):
        examples_of(split)


def test_labels_of_tfds_without_label_feature(tmp_path):
    features = {"image": tfds.features.Image(shape=(2, 2, 3))}
    examples = [(n, {"image": np.full((2, 2, 3), n, np.uint8)}) for n in range(5)]
    prepare(tmp_path, "bare_images", features, {"train": examples}, 1)
    split = datasets.open_dataset("bare_images", data_dir=str(tmp_path)).split("train")
    ids, labels = split.labels()
    assert ids.tolist() == ids_of(split) and labels.tolist() == [-1] * 5
    subset = split.subset(ids[1:3])
    assert not subset.labelled
    assert as_labels(subset) == (ids[1:3].tolist(), [-1, -1])


def test_subset_of_tfds_stays_in_memory_as_stored(own_tfds):
    dataset, root = own_tfds
    # Strings that end in zeros are cut short where they pass through NumPy's fixed-width type.
    rewrite_records(root, lambda features: pad_with_zeros(features["image"].bytes_list.value))
    split = dataset.split("train")
    expected = examples_of(split)[2:5]
    subset = split.subset(example["id"].decode() for example in expected)
    for path in root.rglob("*.tfrecord*"):
        path.unlink()
    assert_same(examples_of(subset), expected)
    (record,) = take(subset.ordered_records((0, 1)).skip(1), 1)
    assert subset._columns["image"][record].numpy().endswith(bytes(5))


def pad_with_zeros(values):
    values[0] += bytes(5)


def test_unlabelled_tfds_does_not_parse_labels(own_tfds):
    dataset, root = own_tfds
    split = dataset.split("train")
    expected = [(example["id"], example["image"]) for example in examples_of(split)]

    def spoil(features):
        features["label"].bytes_list.value.append(b"a string where an integer belongs")

    rewrite_records(root, spoil)
    with pytest.raises(tf.errors.OpError, match="label"):
        examples_of(split)
    with pytest.raises(tf.errors.OpError, match="label"):
        split.labels()
    hidden = split.unlabelled()
    some = hidden.labels()[0][:3]
    for same, those in ((hidden, 9), (split.cached().unlabelled(), 9), (hidden.subset(some), 3)):
        assert_same([(e["id"], e["image"]) for e in examples_of(same)], expected[:those])


def spoil_images(root, numbers):
    """Cuts the stored images of these values short."""

    def change(features):
        encoded = features["image"].bytes_list.value
        if int(tf.io.decode_image(encoded[0])[0, 0, 0]) in numbers:
            encoded[0] = encoded[0][:40]

    rewrite_records(root, change)


def test_damaged_images_are_named_and_keep_their_place(own_tfds, caplog):
    dataset, root = own_tfds
    split = dataset.split("train")
    whole = examples_of(split)
    gone = (whole[0]["image"][0, 0, 0], whole[4]["image"][0, 0, 0])
    spoil_images(root, gone)
    assert [e["id"] for e in examples_of(split)] == [
        e["id"] for i, e in enumerate(whole) if i not in (0, 4)
    ]
    assert dataset.num_skipped == 2
    for index in (0, 4):
        assert f"Skipping the damaged image {whole[index]['id'].decode()}" in caplog.text
    evaluated = datasets.evaluation_batches(split, batch_size=9, image_size=8)
    ((images, labels, weights),) = evaluated.as_numpy_iterator()
    assert [i for i, weight in enumerate(weights) if not weight] == [0, 4]
    assert not images[[0, 4]].any()
    # In training every other example keeps its position and its label.
    batches = datasets.training_batches(split, batch_size=9, image_size=2, seed=3)
    images, labels = next(iter(batches))
    values = np.rint(255 * images[:, 0, 0, 0].numpy()).astype(int)
    first = whole[1]["image"][0, 0, 0]
    assert sorted(values) == sorted([n for n in range(9) if n not in gone] + [first, first])
    assert labels.numpy().tolist() == [n % 2 for n in values]
    again = datasets.training_batches(split, batch_size=9, image_size=2, seed=3, start_step=1)
    np.testing.assert_array_equal(next(iter(again))[0], list(batches.take(2))[1][0])


def test_damaged_images_of_a_subset_are_replaced_from_within(own_tfds):
    dataset, root = own_tfds
    split = dataset.split("train")
    whole = examples_of(split)
    spoil_images(root, [whole[5]["image"][0, 0, 0]])
    chosen = [e["id"].decode() for e in whole[3:7]]
    found = examples_of(split.subset(chosen))
    assert [e["id"].decode() for e in found] == chosen
    assert [e["image"][0, 0, 0] for e in found] == [
        whole[i]["image"][0, 0, 0] for i in (3, 4, 6, 6)
    ]
    assert found[2]["label"] == whole[6]["label"]


def test_tfds_without_any_readable_image(own_tfds):
    dataset, root = own_tfds
    spoil_images(root, range(9))
    split = dataset.split("train")
    with pytest.raises(datasets.DatasetError, match="at least one readable image"):
        split.subset(split.labels()[0][:2])
    with pytest.raises(tf.errors.OpError, match="at least one readable image"):
        next(iter(datasets.training_batches(split, batch_size=2, image_size=2, seed=0)))


def test_the_fingerprint_of_tfds_is_of_its_version_and_part(own_tfds):
    dataset, root = own_tfds
    train = dataset.split("train")
    again = datasets.open_dataset("own_images", data_dir=str(root)).split("train")
    assert train.fingerprint() == again.fingerprint()
    others = [dataset.split("train[:8]"), dataset.split("train[1:]"), train.unlabelled()]
    others.append(train.subset(train.labels()[0][:3]))
    assert len({split.fingerprint() for split in [train, *others]}) == 5
