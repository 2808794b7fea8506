"""Classes that a classifier can tell apart, and those that it cannot."""

import pytest

from simclrv2_tf.config import Config
from simclrv2_tf.datasets.sources import Contents, ImageDataset
from simclrv2_tf.experiments import classes
from simclrv2_tf.experiments.directory import RunError


def data_set(**splits):
    """A folder with these images: split -> class -> number."""
    names = tuple(sorted({name for counts in splits.values() for name in counts}))
    sizes = {split: sum(counts.values()) for split, counts in splits.items()}
    return ImageDataset("folder:photos", names, sizes, None, {}, Contents("photos", {}, splits))


def check(data, **options):
    classes.check(data, Config(train_mode="supervised", dataset="folder:photos", **options))


SINGLES = {f"P{n:02d}": 1 for n in range(30)}


@pytest.mark.parametrize(
    "splits",
    [
        {"train": {"a": 1, "b": 1}, "test": {"a": 1, "b": 5}},
        {"train": {"a": 40, "b": 3, "c": 1}},
        {"train": {"a": 2, "b": 1}},
        {"train": {}},
    ],
)
def test_classes_that_pass(splits):
    check(data_set(**splits))


def test_sets_whose_classes_are_not_counted_pass():
    check(ImageDataset("cifar10", ("a", "b"), {"train": 2}, None))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (data_set(train={"only": 20}), "at least two classes.*only class is only"),
        (ImageDataset("mnist", ("0",), {"train": 9}, None), "at least two classes"),
        (data_set(train=SINGLES), "30 of 30 classes have one image, such as P00"),
        (data_set(train={**SINGLES, "P00": 3}), "29 of 30 classes have one image, such as P01"),
        (data_set(train={"a": 1, "b": 1}), "2 of 2 classes"),
    ],
)
def test_classes_that_are_refused(data, says):
    with pytest.raises(RunError, match=says) as caught:
        check(data)
    assert "train_mode=supervised must have" in str(caught.value)
    assert f"Received: dataset={data.name}" in str(caught.value)
    assert "--train_mode=pretrain" in str(caught.value) and "\n" not in str(caught.value)


def test_single_images_may_be_meant():
    check(data_set(train=SINGLES), eval_split="train")
    with pytest.raises(RunError, match="two classes"):
        check(data_set(train={"only": 20}), eval_split="train")


def test_single_images_are_known():
    data = data_set(train={"a": 1, "b": 1, "c": 4}, test={"b": 1})
    assert classes.singles(data) == ["a"]
    assert classes.counted(data) == {"a": 1, "b": 2, "c": 4}
