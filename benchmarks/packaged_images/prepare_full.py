"""Prepares all 70,000 images of Fashion-MNIST as TensorFlow Datasets' `fashion_mnist`.

    python benchmarks/packaged_images/prepare_full.py FASHION_MNIST_FOLDER DATA_DIR

The first folder holds the four files as published, see `build.py`. Runs then read the data set with
`--dataset=fashion_mnist --data_dir=DATA_DIR`. It takes a minute or two, once.
"""

from __future__ import annotations

import pathlib
import sys

import numpy as np
from build import read_idx

_VERSION = "3.0.1"
_FILES = {
    split: [f"{prefix}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
    for split, prefix in (("train", "train"), ("test", "t10k"))
}


def prepare(source: pathlib.Path, data_dir: pathlib.Path) -> bool:
    """Makes the data set in `data_dir`; returns whether it was missing.

    Raises:
        FileNotFoundError: `source` lacks one of the published files.
    """
    if (data_dir / "fashion_mnist" / _VERSION / "dataset_info.json").exists():
        return False
    missing = [name for pair in _FILES.values() for name in pair if not (source / name).exists()]
    if missing:
        raise FileNotFoundError(
            "`source` must hold the four published files of Fashion-MNIST. "
            f"Received: source={source}, without {', '.join(missing)}"
        )
    # Not at the top, so that errors for missing files do not wait for TensorFlow.
    import tensorflow as tf
    import tensorflow_datasets as tfds

    from simclrv2_tf.datasets import open_dataset

    tfds.disable_progress_bar()
    splits = {}
    for split, names in _FILES.items():
        images, labels = (read_idx(source / name) for name in names)
        examples = {"image": images[..., None], "label": labels.astype(np.int64)}
        splits[split] = tf.data.Dataset.from_tensor_slices(examples)
    image = tfds.features.Image(shape=(28, 28, 1))
    label = tfds.features.ClassLabel(names=list(open_dataset("fashion_mnist_small").class_names))
    tfds.dataset_builders.store_as_tfds_dataset(
        name="fashion_mnist",
        version=_VERSION,
        features=tfds.features.FeaturesDict({"image": image, "label": label}),
        split_datasets=splits,
        data_dir=str(data_dir),
    )
    return True


def main() -> None:
    """Prepares the data set, or prints what is missing."""
    if len(sys.argv) != 3:
        sys.exit(f"Usage: python {sys.argv[0]} FASHION_MNIST_FOLDER DATA_DIR")
    source, data_dir = map(pathlib.Path, sys.argv[1:])
    try:
        made = prepare(source, data_dir)
    except FileNotFoundError as error:
        sys.exit(f"Error: {error}")
    print(f"fashion_mnist {'is prepared' if made else 'was prepared before'} in {data_dir}.")


if __name__ == "__main__":
    main()
