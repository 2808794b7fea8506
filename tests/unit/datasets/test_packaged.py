"""The packaged set: what it holds, and that the build script makes it."""

import gzip
import lzma
import runpy

import numpy as np
import pytest

from helpers.colored import examples_of, take
from helpers.paths import ROOT, SHARED

FASHION_MNIST = SHARED / "data" / "fashion_mnist"


def test_packaged_set_is_balanced_and_rgb(packaged):
    assert packaged.splits == {"train": 10_000, "test": 2_000, "validation": 1_000}
    assert packaged.num_classes == 10
    assert packaged.class_names[9] == "Ankle boot"
    assert packaged.default_eval_split == "test"
    for split, per_class in (("train", 1_000), ("validation", 100), ("test", 200)):
        (examples,) = take(packaged.split(split).examples().batch(20_000), 1)
        np.testing.assert_array_equal(np.bincount(examples["label"]), [per_class] * 10)
        assert len(set(examples["id"])) == 10 * per_class
    image = examples["image"]
    assert image.shape == (2_000, 28, 28, 3) and image.dtype == np.uint8
    np.testing.assert_array_equal(image[..., 0], image[..., 1])
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="needs ../shared/data/fashion_mnist")
def test_packaged_file_is_what_the_build_script_makes(packaged):
    script = runpy.run_path(str(ROOT / "benchmarks" / "packaged_images" / "build.py"))
    # The compressor's version may change the compressed bytes, never what is in them.
    shipped = lzma.decompress(script["OUTPUT"].read_bytes())
    assert script["select"](FASHION_MNIST) == shipped
    assert lzma.decompress(script["compress"](shipped[:100_000])) == shipped[:100_000]
    # Read independently of the script: the first image of the set is the first of the files.
    pixels = gzip.decompress((FASHION_MNIST / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((FASHION_MNIST / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    first = examples_of(packaged.split("test[:50]"))
    for index, example in enumerate(first):
        assert example["image"][..., 0].tobytes() == pixels[784 * index : 784 * (index + 1)]
        assert example["label"] == labels[index]


@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="needs ../shared/data/fashion_mnist")
def test_splits_are_other_images_of_the_published_files(packaged):
    """In loops over the published files: where each class's images come from."""
    pixels = gzip.decompress((FASHION_MNIST / "train-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((FASHION_MNIST / "train-labels-idx1-ubyte.gz").read_bytes())[8:]
    seen, found = [0] * 10, {"train": [], "validation": []}
    for index, label in enumerate(labels):
        split = "train" if seen[label] < 1_000 else "validation" if seen[label] < 1_100 else None
        if split:
            found[split].append((pixels[784 * index : 784 * (index + 1)], label))
        seen[label] += 1
    for split, expected in found.items():
        (held,) = take(packaged.split(split).examples().batch(20_000), 1)
        own = zip(held["image"][..., 0], held["label"], strict=True)
        assert [(image.tobytes(), label) for image, label in own] == expected
