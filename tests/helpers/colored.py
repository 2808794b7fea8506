"""Data sets of images that are known by their color, and helpers that read data sets.

Each image has one color, (10 * class, number, 200), which no crop, flip or resize changes.
"""

import io

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

TRAIN, TEST = 23, 7  # per source; neither divides by the batch sizes and shard counts below


def color(label, number):
    return (10 * label, number, 200)


def number_of(images):
    """The numbers of a batch of one-color float images."""
    return np.rint(np.asarray(images)[:, 3, 3, 1] * 255).astype(int).tolist()


def save(path, label, number, size=(9, 12), **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color(label, number)).save(path, **kwargs)
    return path


def encoded(image, kind="PNG", **kwargs):
    buffer = io.BytesIO()
    image.save(buffer, kind, **kwargs)
    return buffer.getvalue()


def prepare(root, name, features, splits, num_shards=4):
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets=splits,
        data_dir=str(root),
        download_config=tfds.download.DownloadConfig(try_download_gcs=False, num_shards=num_shards),
    )


def examples_of(split):
    return list(split.examples().as_numpy_iterator())


def ids_of(split):
    return [example["id"].decode() for example in examples_of(split)]


def take(dataset, count):
    return list(dataset.take(count).as_numpy_iterator())


def assert_same(left, right):
    left, right = tf.nest.flatten(left), tf.nest.flatten(right)
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b)


def write_folder(root):
    """A folder of classes a, b and c, with `train/` and `test/`; returns it."""
    for split, count in (("train", TRAIN), ("test", TEST)):
        for number in range(count):
            label = number % 3
            size = (8 + number, 20 - number // 2)
            save(root / split / "abc"[label] / f"{number}.png", label, number, size)
    return root


def write_tfds(root):
    """The same as prepared data `color_images`, which has no code; returns its folder."""

    def examples(count):
        return [
            (n, {"image": np.full((8, 8 + n, 3), color(n % 3, n), np.uint8), "label": n % 3})
            for n in range(count)
        ]

    features = {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
    }
    prepare(root, "color_images", features, {"train": examples(TRAIN), "test": examples(TEST)})
    return root
