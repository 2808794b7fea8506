"""Fixtures that several test files use."""

import os

import numpy as np
import pytest

from helpers.paths import ROOT
from helpers.small import lessen, shorten
from simclrv2_tf import environment

# As the commands do, before a test imports TensorFlow.
environment.prepare()
# Programs of the tests import the same package, and `helpers`.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests")])

# Workers share the cores among themselves: threads of each for the same operation only get into the
# other's way.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

# A minute or more each, the longest first.
LONG = [
    "test_notebooks",
    "test_run",
    "test_semi_supervised",
    "test_xla",
    "test_multi_worker",
    "test_replicas",
    "test_memory",
    "test_statistics_objectives",
    "test_stages",
    "test_exports",
]


def pytest_xdist_auto_num_workers(config):
    """One more than cores: while one waits for a process that its test began, another works."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items):
    """Begins with the long files, so that no worker is left with one alone at the end."""
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONG)))


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """A folder of 2 classes, 12 training and 5 test images each, of differing sizes."""
    import tensorflow as tf

    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 5)):
        for label, name in enumerate(("dark", "light")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 100, (20 + i, 24, 3)) + 120 * label
                png = tf.io.encode_png(pixels.astype(np.uint8))
                (folder / f"{i}.png").write_bytes(png.numpy())
    return root


@pytest.fixture
def less_output(monkeypatch):
    """As `lessen` does it, for those tests that look at other files alone."""
    lessen(monkeypatch)


@pytest.fixture(scope="module")
def short_networks():
    """As `shorten` makes them."""
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        yield
