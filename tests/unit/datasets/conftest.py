"""Data sets that tests of this folder share; none of them changes their files."""

import pytest

from helpers.colored import TRAIN, examples_of, take, write_folder, write_tfds
from simclrv2_tf import datasets


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def tfds_dir(tmp_path_factory):
    return write_tfds(tmp_path_factory.mktemp("tfds"))


@pytest.fixture(scope="session")
def numbered(folder, tfds_dir):
    """The two sources of numbered images, by kind."""
    return {
        "folder": datasets.open_dataset(f"folder:{folder}"),
        "tfds": datasets.open_dataset("color_images", data_dir=str(tfds_dir)),
    }


@pytest.fixture(scope="session")
def packaged():
    return datasets.open_dataset("fashion_mnist_small")


@pytest.fixture(scope="session", params=["packaged", "folder", "tfds"])
def split(request, packaged, numbered):
    """The same number of examples of each source."""
    if request.param == "packaged":
        return packaged.split(f"train[:{TRAIN}]")
    return numbered[request.param].split("train")


@pytest.fixture(scope="session")
def examples(split):
    """The examples of `split`."""
    return examples_of(split)


@pytest.fixture(scope="session")
def trained(split):
    """The first batches of training on `split`, and the options that make them."""
    options = {"batch_size": 5, "image_size": 8, "seed": 3}
    return take(datasets.training_batches(split, **options), 12), options
