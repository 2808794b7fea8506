"""A prefix leads to the file of a source."""

import os
import sys
import types

import pytest

from simclrv2_tf import datasets
from simclrv2_tf.datasets import sources


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("fashion_mnist_small", "packaged"),
        ("folder:/a:b", "folder"),
        ("folder:", "folder"),
        ("made_up:thing", "made_up"),
        ("cifar10:3.0.2", "tfds"),
        ("folder", "tfds"),
        ("fashion_mnist_small:1.0.0", "tfds"),
        ("fashion_mnist_small/train", "tfds"),
        ("", "tfds"),
    ],
)
def test_a_prefix_leads_to_a_file(name, file, monkeypatch):
    monkeypatch.setitem(sources.SOURCES, "made_up:THING", "made_up")
    module = types.SimpleNamespace(open_dataset=lambda *arguments: arguments)
    monkeypatch.setitem(sys.modules, f"simclrv2_tf.datasets.{file}", module)
    assert datasets.open_dataset(name, "data", 3, (0, 9)) == (name, "data", 3, (0, 9), 3)
    assert datasets.open_dataset(name, channels=5) == (name, None, 0, None, 5)


def test_every_row_has_its_file():
    for file in (*sources.SOURCES.values(), "tfds"):
        module = __import__(f"simclrv2_tf.datasets.{file}", fromlist=["open_dataset"])
        assert callable(module.open_dataset)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with folders of images, and prepared data in `data`."""
    for folder in ("photos", "cifar10", "deep/photos", "fashion_mnist_small", "data/cifar10"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "full", "says"),
    [
        ("photos", "folder:photos", "photos is read as folder:photos: no data set"),
        ("photos/", "folder:photos", "is read as folder:photos"),
        ("deep/photos", "folder:deep/photos", "is read as folder:deep/photos"),
        ("./photos//", "folder:photos", None),
        ("../photos", "folder:../photos", None),
        (".", "folder:.", None),
        ("~/photos", "folder:~/photos", None),
        ("/no/such/folder/", "folder:/no/such/folder", None),
        ("./nothing", "folder:nothing", None),
        ("folder:./photos/", "folder:photos", None),
        ("folder:gs://bucket//photos/", "folder:gs://bucket//photos/", None),
        ("folder:", "folder:", None),
        ("gs://bucket/photos", "gs://bucket/photos", None),
        ("nothing", "nothing", None),
        ("file", "file", None),
        ("imagenet2012_subset/1pct", "imagenet2012_subset/1pct", None),
        ("cifar10", "cifar10", "cifar10 is read as the data set in data/cifar10; the folder"),
        ("cifar10:3.0.2", "cifar10:3.0.2", None),
        ("fashion_mnist_small", "fashion_mnist_small", "the data set of this package; the folder"),
    ],
)
def test_a_path_names_a_folder_unless_a_data_set_has_the_name(name, full, says, here):
    resolved, line = sources.resolve(name, "data")
    assert resolved == full
    assert (says in line and "\n" not in line) if says else line is None
    assert sources.resolve(full, "data")[0] == full


def test_prepared_data_are_looked_for_where_tfds_keeps_them(here, monkeypatch):
    assert sources.resolve("cifar10")[0] == "folder:cifar10"
    os.makedirs("tensorflow_datasets/cifar10")
    assert sources.resolve("cifar10")[0] == "cifar10"
    monkeypatch.setenv("TFDS_DATA_DIR", str(here / "other"))
    assert sources.resolve("cifar10")[0] == "folder:cifar10"
    assert sources.resolve("cifar10", "gs://bucket/data")[0] == "cifar10"  # for TensorFlow to see
    assert sources.resolve("cifar10", ".") == ("cifar10", None)  # that folder is the prepared data
