"""A prefix leads to the file of a source."""

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
    assert datasets.open_dataset(name, "data", 3, (0, 9)) == (name, "data", 3, (0, 9))


def test_every_row_has_its_file():
    for file in (*sources.SOURCES.values(), "tfds"):
        module = __import__(f"simclrv2_tf.datasets.{file}", fromlist=["open_dataset"])
        assert callable(module.open_dataset)
