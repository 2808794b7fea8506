"""Layouts of folders, read from names alone."""

import pytest

from helpers.listing import Paths, is_image
from simclrv2_tf.datasets import DatasetError, folder_layout

FLAT, CATS, DOGS = "{n}.jpg", "cat/{n}.jpg", "dog/{n}.jpg"


def below(folder, *paths):
    return [f"{folder}/{path}" for path in paths]


def read(*paths):
    return folder_layout.read(Paths(*paths), is_image, ".jpg")


def counted(layout):
    """Split -> class -> number of images."""
    return {
        split: {name: list(images.values()).count(name) for name in images.values()}
        for split, images in layout.splits.items()
    }


BOTH = {"cat": 3, "dog": 3}
LAYOUTS = {
    "classes": ([CATS, DOGS], {"train": BOTH}),
    "deep classes": (["cat/a/{n}.jpg", "cat/b/c/{n}.jpg", DOGS], {"train": {"cat": 6, "dog": 3}}),
    "flat": ([FLAT], {"train": {None: 3}}),
    "one class": ([CATS], {"train": {"cat": 3}}),
    "splits in any case": (
        [*below("Training", CATS, DOGS), *below("VALID", CATS), *below("test_set", DOGS)],
        {"train": BOTH, "validation": {"cat": 3}, "test": {"dog": 3}},
    ),
    "train alone": (below("Train", CATS, DOGS), {"train": BOTH}),
    "an empty folder of the same meaning": (
        [*below("train", CATS, DOGS), *below("test", CATS), "eval/log.txt"],
        {"train": BOTH, "test": {"cat": 3}},
    ),
    "unlabelled beside classes": (
        [CATS, DOGS, *below("unlabeled", FLAT)],
        {"train": BOTH, "unlabelled": {None: 3}},
    ),
    "unlabelled folders beside splits": (
        [*below("train", CATS, DOGS), *below("test", CATS), *below("Unsup", CATS, FLAT)],
        {"train": BOTH, "test": {"cat": 3}, "unlabelled": {None: 6}},
    ),
    "unlabelled below train": (
        below("train", CATS, DOGS, *below("unlabeled_images", FLAT)),
        {"train": BOTH, "unlabelled": {None: 3}},
    ),
    "unlabelled beside a folder of classes": (
        [*below("labeled", CATS, DOGS), *below("unlabeled", FLAT)],
        {"train": BOTH, "unlabelled": {None: 3}},
    ),
    "unlabelled alone": (below("unlabelled", FLAT), {"train": {None: 3}}),
    "unlabelled beside flat": (
        [FLAT, *below("unlabelled", FLAT)],
        {"train": {None: 3}, "unlabelled": {None: 3}},
    ),
    "a test split without labels": (
        [*below("train", CATS, DOGS), *below("test", FLAT)],
        {"train": BOTH, "test": {None: 3}},
    ),
    "a test split without labels in a folder": (
        [*below("train", CATS, DOGS), *below("test/images", FLAT)],
        {"train": BOTH, "test": {None: 3}},
    ),
    "splits in folders of the same name": (
        [*below("train/train", CATS, DOGS), *below("Testing/testing", CATS), "val/images/{n}.jpg"],
        {"train": BOTH, "test": {"cat": 3}, "validation": {None: 3}},
    ),
    "splits in folders of images": (
        [*below("train/images", CATS, DOGS), *below("test/images", CATS)],
        {"train": BOTH, "test": {"cat": 3}},
    ),
    "a class with the name of its split": (below("train/train", FLAT), {"train": {"train": 3}}),
    "classes that could be splits": (
        [*below("dev", FLAT), *below("valid", FLAT), CATS],
        {"train": {"dev": 3, "valid": 3, "cat": 3}},
    ),
    "a class that a split lacks": (
        [*below("train", CATS, DOGS), *below("val", DOGS)],
        {"train": BOTH, "validation": {"dog": 3}},
    ),
    "a class called valid": (
        below("valid", FLAT) + below("invalid", FLAT),
        {"train": {"valid": 3, "invalid": 3}},
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout(name):
    paths, expected = LAYOUTS[name]
    layout = read(*paths)
    assert counted(layout) == expected
    known = sorted(name for name in expected["train"] if name)
    assert layout.class_names == tuple(known)


def test_folders_of_splits_are_known():
    layout = read(*below("Training", CATS), *below("dev", CATS), *below("Unlabeled", FLAT))
    assert layout.folders == {"train": "Training", "validation": "dev", "unlabelled": "Unlabeled"}
    assert read(CATS, DOGS).folders == {}


def test_classes_are_sorted_as_text():
    assert read(*(f"{n}/{{n}}.jpg" for n in range(12))).class_names[:4] == ("0", "1", "10", "11")


@pytest.mark.parametrize(
    ("paths", "note"),
    [
        ([CATS, DOGS, "empty/notes.txt"], "no images in empty; ignored"),
        ([CATS, DOGS, FLAT], "3 images outside the class folders of photos; ignored"),
        ([CATS, DOGS, "cat/a.gif", "b.txt"], "2 files are not .jpg; ignored"),
        (
            [*below("train", CATS), *below("more", CATS), FLAT],
            "only train are read, as there is train/; left aside: more, 3 loose images (folders of "
            "classes belong below train/)",
        ),
        (
            [*below("dev", FLAT), *below("prod", FLAT)],
            "dev/ is read as a class: no train/ lies beside it",
        ),
    ],
)
def test_what_could_be_taken_otherwise_is_noted(paths, note):
    assert note in read(*paths).notes


@pytest.mark.parametrize(
    "name",
    [
        "classes",
        "flat",
        "splits in any case",
        "unlabelled beside classes",
        "unlabelled folders beside splits",
        "a test split without labels",
    ],
)
def test_nothing_is_noted_of_what_is_clear(name):
    assert not read(*LAYOUTS[name][0]).notes


@pytest.mark.parametrize(
    ("paths", "rule"),
    [
        ([*below("train", CATS), *below("Training", CATS)], "both Training/ and train/ mean that"),
        ([*below("train", CATS), *below("test", CATS), *below("eval", CATS)], "one split test"),
        ([*below("unlabeled", FLAT), *below("unsup", FLAT), CATS], "one split unlabelled"),
        ([*below("Testing", CATS), *below("other", CATS)], "Testing/ must have train/ beside it"),
        (below("valid", CATS), "valid/ must have train/ beside it"),
        ([*below("val", CATS), *below("test", CATS)], "test/ must have train/ beside it"),
        ([*below("train", CATS), *below("test", DOGS)], "must all be in train/; dog is not"),
        ([*below("train", CATS), *below("test", DOGS, "all/{n}.jpg")], "must all be in train/"),
        ([*below("train", FLAT), *below("test", CATS)], "train/ and test/ differ"),
        ([*below("train", "x.txt"), *below("test", CATS)], "must hold images .*, and 1 other"),
        (["a.txt"], "must hold images"),
    ],
)
def test_contradictions_are_refused_with_one_line(paths, rule):
    with pytest.raises(DatasetError, match=rule) as caught:
        read(*paths)
    assert "Received: folder:photos" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("paths", "inner"),
    [
        (below("PetImages", CATS, DOGS), "PetImages"),
        (below("archive", *below("train", CATS), *below("test", CATS)), "archive"),
        (below("a", *below("b", CATS, DOGS)), "a/b"),
        (below("a", *below("b", *below("Training", CATS))), "a/b"),
        (below("a", *below("b", *below("c", FLAT, "labels.csv"))), "a/b/c"),
        (["cat/deep/{n}.jpg"], None),
        ([*below("PetImages", CATS, DOGS, "stray.jpg"), "readme.txt", "docs/a.txt"], "PetImages"),
        (below("photos", FLAT, "labels.csv"), "photos"),
        (below("photos", *below("images", FLAT), "labels.csv"), "photos"),
        ([CATS], None),
        ([CATS, DOGS], None),
        ([FLAT], None),
        (["cat/{n}.jpg", "cat/more/{n}.jpg"], None),
        ([*below("PetImages", CATS, DOGS), FLAT], None),
        ([*below("images", CATS, DOGS), "labels.csv"], None),
        (below("train", CATS, DOGS), None),
        ([*below("all", CATS, DOGS), *below("unlabeled", FLAT)], None),
        (["a.txt"], None),
    ],
)
def test_one_wrapping_folder_is_entered(paths, inner):
    assert folder_layout.wrapped(Paths(*paths), is_image) == inner
