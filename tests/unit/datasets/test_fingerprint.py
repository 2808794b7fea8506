"""The fingerprint of a split changes with its examples, and with nothing else."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from simclrv2_tf import datasets
from simclrv2_tf.datasets.splits import IndexedSplit


@pytest.fixture
def root(tmp_path):
    for split in ("train", "test"):
        for name in "ab":
            folder = tmp_path / "root" / split / name
            folder.mkdir(parents=True)
            for index in range(3):
                Image.fromarray(np.full((4, 4, 3), index, np.uint8)).save(folder / f"{index}.png")
    return tmp_path / "root"


def of_folder(root, split="train"):
    return datasets.open_dataset(f"folder:{root}").split(split).fingerprint()


def add(root):
    shutil.copy(root / "train/a/0.png", root / "train/a/9.png")


def remove(root):
    (root / "train/a/0.png").unlink()


def rename(root):
    (root / "train/a/0.png").rename(root / "train/a/00.png")


def replace(root):
    with (root / "train/a/0.png").open("ab") as file:
        file.write(b"\0")


def relabel(root):
    (root / "train/a").rename(root / "train/c")
    (root / "test/a").rename(root / "test/c")


@pytest.mark.parametrize("change", [add, remove, rename, replace, relabel])
def test_a_folder_that_has_changed(root, change):
    before, test = of_folder(root), of_folder(root, "test")
    assert len(before) == 64
    change(root)
    assert of_folder(root) != before
    assert (of_folder(root, "test") == test) == (change is not relabel)


def test_a_folder_that_has_moved(root, tmp_path):
    before = of_folder(root)
    shutil.move(root, tmp_path / "elsewhere")
    assert of_folder(tmp_path / "elsewhere") == before


@pytest.mark.parametrize("column, value", [("id", b"x"), ("label", 5), ("image", 9)])
def test_images_in_memory(column, value):
    columns = {
        "id": np.array([b"a", b"b"], object),
        "label": np.array([0, 1], np.int64),
        "image": np.zeros((2, 4, 4), np.uint8),
    }

    def fingerprint():
        held = {key: tf.constant(values) for key, values in columns.items()}
        return IndexedSplit("x", held, lambda image: image).fingerprint()

    before = fingerprint()
    assert fingerprint() == before
    columns[column].ravel()[0] = value
    assert fingerprint() != before


def test_the_packaged_images():
    data = datasets.open_dataset("fashion_mnist_small")
    found = {spec: data.split(spec).fingerprint() for spec in ("train", "test", "train[:50%]")}
    assert len({*found.values()}) == 3
    assert data.split("train").unlabelled().fingerprint() != found["train"]
