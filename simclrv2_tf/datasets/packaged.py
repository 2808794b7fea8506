"""The packaged set: a balanced part of Fashion-MNIST, in memory."""

import importlib.resources
import lzma

import numpy as np
import tensorflow as tf

from simclrv2_tf.datasets.sources import ImageDataset, Range, ValueRange
from simclrv2_tf.datasets.splits import IndexedSplit

_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def open_dataset(
    name: str, data_dir: str | None, split_seed: int, value_range: ValueRange = None
) -> ImageDataset:
    """Opens the packaged set: 10,000 + 2,000 gray images of 28 x 28, as RGB."""
    del data_dir, split_seed, value_range  # of 8 bits
    resource = importlib.resources.files("simclrv2_tf") / "data" / f"{name}.xz"
    splits = {}
    with resource.open("rb") as compressed, lzma.open(compressed) as content:
        for split in ("train", "test"):
            images = np.lib.format.read_array(content)
            labels = np.lib.format.read_array(content).astype(np.int64)
            ids = np.array([f"{split}/{index}" for index in range(len(labels))])
            splits[split] = {"id": ids, "image": images, "label": labels}

    def select(spec: str, ranges: list[Range]) -> IndexedSplit:
        columns = {
            key: tf.constant(np.concatenate([splits[split][key][a:b] for split, a, b in ranges]))
            for key in ("id", "image", "label")
        }
        return IndexedSplit(spec, columns, lambda image: tf.repeat(image[:, :, None], 3, axis=2))

    sizes = {split: len(columns["id"]) for split, columns in splits.items()}
    return ImageDataset(name, _CLASSES, sizes, select)
