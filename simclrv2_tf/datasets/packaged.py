"""The packaged set: a balanced part of Fashion-MNIST, in memory."""

from __future__ import annotations

import importlib.resources
import lzma

import numpy as np
import tensorflow as tf

from simclrv2_tf.datasets.sources import ImageDataset, Range
from simclrv2_tf.datasets.splits import IndexedSplit, MemoryReader, Split

_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def open_dataset(name: str, data_dir: str | None, seed: int) -> ImageDataset:
    """Opens the packaged set: 10,000 + 2,000 gray images of 28 x 28, as RGB."""
    del data_dir, seed
    resource = importlib.resources.files("simclrv2_tf") / "data" / f"{name}.xz"
    arrays = {}
    with resource.open("rb") as compressed, lzma.open(compressed) as content:
        for split in ("train", "test"):
            images = np.lib.format.read_array(content)
            labels = np.lib.format.read_array(content)
            ids = np.array([f"{split}/{index}" for index in range(len(labels))])
            arrays[split] = (images, labels, ids)

    def select(spec: str, ranges: list[Range]) -> Split:
        parts = [[array[begin:end] for array in arrays[split]] for split, begin, end in ranges]
        images, labels, ids = (np.concatenate(column) for column in zip(*parts, strict=True))
        reader = MemoryReader(
            tf.constant(ids),
            tf.constant(images),  # (N, 28, 28)
            tf.constant(labels, tf.int64),
            lambda image: tf.repeat(image[:, :, None], 3, axis=2),
        )
        return IndexedSplit(spec, len(labels), True, reader)

    sizes = {split: len(labels) for split, (_, labels, _) in arrays.items()}
    return ImageDataset(name, _CLASSES, sizes, select)
