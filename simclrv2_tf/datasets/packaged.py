"""The packaged set: a balanced part of Fashion-MNIST, in memory."""

import functools
import importlib.resources
import lzma

import numpy as np
import tensorflow as tf

from simclrv2_tf.channels import COLORS, RGB
from simclrv2_tf.datasets.images import as_color
from simclrv2_tf.datasets.sources import DatasetError, ImageDataset, Range, ValueRange
from simclrv2_tf.datasets.splits import IndexedSplit

_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def open_dataset(
    name: str,
    data_dir: str | None,
    split_seed: int,
    value_range: ValueRange = None,
    channels: int = RGB,
) -> ImageDataset:
    """Opens the packaged set: gray images of 28 x 28, as gray or RGB.

    10,000 for training, 2,000 for testing, and 1,000 for validation during training.

    Raises:
        DatasetError: `channels` is neither 1 nor 3.
    """
    del data_dir, split_seed, value_range  # the images have 8 bits
    if channels not in COLORS:
        raise DatasetError(
            f"`channels` must be 1 or 3 for {name}, whose images are gray. "
            f"Received: channels={channels}"
        )
    resource = importlib.resources.files("simclrv2_tf") / "data" / f"{name}.xz"
    splits = {}
    with resource.open("rb") as compressed, lzma.open(compressed) as content:
        for split in ("train", "test", "validation"):
            images = np.lib.format.read_array(content)
            labels = np.lib.format.read_array(content).astype(np.int64)
            ids = np.array([f"{split}/{index}" for index in range(len(labels))])
            splits[split] = {"id": ids, "image": images, "label": labels}

    def select(spec: str, ranges: list[Range]) -> IndexedSplit:
        columns = {
            key: tf.constant(np.concatenate([splits[split][key][a:b] for split, a, b in ranges]))
            for key in ("id", "image", "label")
        }
        decode = functools.partial(_decode, channels=channels)
        return IndexedSplit(spec, columns, decode, channels)

    sizes = {split: len(columns["id"]) for split, columns in splits.items()}
    return ImageDataset(name, _CLASSES, sizes, select, stored="gray of 8 bits", eval_split="test")


def _decode(image: tf.Tensor, channels: int) -> tf.Tensor:
    return as_color(image[:, :, None], channels)
