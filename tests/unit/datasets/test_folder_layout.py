"""Layouts of folders, inferred only from names."""

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
    "only train": (below("Train", CATS, DOGS), {"train": BOTH}),
    "an empty folder of the same meaning": (
        [*below("train", CATS, DOGS), *below("test", CATS), "eval/log.txt"],
        {"train": BOTH, "test": {"cat": 3}},
    ),
    "unlabelled alongside classes": (
        [CATS, DOGS, *below("unlabeled", FLAT)],
        {"train": BOTH, "unlabelled": {None: 3}},
    ),
    "unlabelled folders alongside splits": (
        [*below("train", CATS, DOGS), *below("test", CATS), *below("Unsup", CATS, FLAT)],
        {"train": BOTH, "test": {"cat": 3}, "unlabelled": {None: 6}},
    ),
    "unlabelled below train": (
        below("train", CATS, DOGS, *below("unlabeled_images", FLAT)),
        {"train": BOTH, "unlabelled": {None: 3}},
    ),
    "unlabelled alongside a folder of classes": (
        [*below("labeled", CATS, DOGS), *below("unlabeled", FLAT)],
        {"train": BOTH, "unlabelled": {None: 3}},
    ),
    "only unlabelled": (below("unlabelled", FLAT), {"train": {None: 3}}),
    "unlabelled alongside flat": (
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
    "a folder with the name of its split": (below("train/train", FLAT), {"train": {None: 3}}),
    "one folder of images": (below("Images", FLAT), {"train": {None: 3}}),
    "images in folders alongside labels": (
        [*below("train", "images/{n}.jpg", "labels/1.txt"), *below("valid/images", FLAT)],
        {"train": {None: 3}, "validation": {None: 3}},
    ),
    "splits with a word before them": (
        [*below("seg_train/seg_train", CATS, DOGS), *below("seg_test/seg_test", CATS)],
        {"train": BOTH, "test": {"cat": 3}},
    ),
    "splits with a word, without classes": (
        [*below("bounding_box_train", FLAT), *below("bounding_box_test", FLAT)],
        {"train": {None: 3}, "test": {None: 3}},
    ),
    "splits with a year": (
        [*below("train2017", FLAT), *below("val2017", FLAT)],
        {"train": {None: 3}, "validation": {None: 3}},
    ),
    "two folders of a meaning, below one train": (
        [*below("train/labeled", CATS, DOGS), *below("train/unlabeled", FLAT)],
        {"train": BOTH, "unlabelled": {None: 3}},
    ),
    "classes that end like splits": (
        [*below("steam_train", FLAT), *below("test_tube", FLAT)],
        {"train": {"steam_train": 3, "test_tube": 3}},
    ),
    "parts of one set": (
        [*below("images_001/images", FLAT), *below("images_002", FLAT)],
        {"train": {None: 6}},
    ),
    "numbered classes": (
        [*below("digit_0", FLAT), *below("digit_1", FLAT)],
        {"train": {"digit_0": 3, "digit_1": 3}},
    ),
    "an accent in two Unicode forms": (
        [*below("train/caf\u00e9", FLAT), *below("test/cafe\u0301", FLAT)],
        {"train": {"caf\u00e9": 3}, "test": {"caf\u00e9": 3}},
    ),
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
        (
            [CATS, DOGS, *(f"cat/{n}.gif" for n in range(5)), "b.TXT", "c"],
            "ignored 7 files that are not images, by ending (.gif 5, .txt 1, no ending 1)",
        ),
        ([CATS, "b.txt"], "ignored 1 file that is not an image, by ending (.txt 1)"),
        (
            [*below("Cat", FLAT), CATS, DOGS],
            "the classes Cat and cat differ only in case or spaces",
        ),
        (
            [*below("color", CATS, DOGS), *below("gray", CATS, DOGS), *below("masked", CATS)],
            "the classes are color, gray and masked, which hold folders of the same names "
            "(cat, dog); if those are the classes, give one folder, such as photos/color",
        ),
        (
            [*below("data", CATS, DOGS), "docs/logo.jpg"],
            "the classes are data and docs, of which only data holds folders (cat, dog); if "
            "those are the classes, give photos/data",
        ),
        (
            [*below("fold1", FLAT), *below("fold2", FLAT)],
            "the names of the folders fold1/ and fold2/ are parts of one set, not classes: their "
            "images have no labels (inside a folder train/, folders of classes can have any name)",
        ),
        (
            [FLAT, "train.csv"],
            "no labels are read from train.csv: a table of labels must be called labels.csv or "
            "metadata.csv and be directly in photos or in the folder of a split",
        ),
        (
            [*below("train", FLAT, "info.csv"), *below("test", FLAT, "info.xlsx")],
            "no labels are read from train/info.csv and test/info.xlsx: a table of labels must be "
            "called labels.csv or metadata.csv and be directly in photos or in the folder of a "
            "split",
        ),
        (
            [*below("train", CATS), *below("more", CATS), FLAT],
            "only train is read, because there is train/; ignored: more, 3 loose images (folders "
            "of classes belong in train/)",
        ),
        (
            [*below("dev", FLAT), *below("prod", FLAT)],
            "the folder dev/ is read as a class: there is no train/ alongside it",
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
        "unlabelled alongside classes",
        "unlabelled folders alongside splits",
        "a test split without labels",
        "images in folders alongside labels",
        "splits with a word before them",
        "numbered classes",
        "an accent in two Unicode forms",
    ],
)
def test_nothing_is_noted_of_what_is_clear(name):
    assert not read(*LAYOUTS[name][0]).notes


@pytest.mark.parametrize(
    ("paths", "rule"),
    [
        ([*below("train", CATS), *below("Training", CATS)], "both Training/ and train/ mean it"),
        ([*below("train", CATS), *below("test", CATS), *below("eval", CATS)], "one split test"),
        ([*below("unlabeled", FLAT), *below("unsup", FLAT), CATS], "one split unlabelled"),
        (
            [*below("Testing", CATS), *below("other", CATS)],
            "Testing/ is a split, there must be a folder train/",
        ),
        (below("valid", CATS), "valid/ is a split, there must be a folder train/"),
        (
            [*below("val", CATS), *below("test", CATS)],
            "test/ is a split, there must be a folder train/",
        ),
        ([*below("train", CATS), *below("test", DOGS)], "must all be in train/; dog is not"),
        ([*below("train", CATS), *below("test", DOGS, "all/{n}.jpg")], "must all be in train/"),
        ([*below("train", FLAT), *below("test", CATS)], "train/ and test/ differ"),
        (
            [*below("train", "x.txt"), *below("test", CATS)],
            r"must hold images .*other files \(.txt 1\)",
        ),
        (["a.txt", "b.7z", "c.7z"], r"with none, and 3 other files \(.7z 2, .txt 1\)"),
        ([], "with none, and no other file"),
        ([*below("images", FLAT), *below("masks", FLAT)], "with images/ next to masks/"),
        (
            [*below("cat", "Images/{n}.jpg", "masks/{n}.jpg"), DOGS],
            "A folder Images/ must be the only folder .* with cat/Images/ next to cat/masks/",
        ),
        (
            [*below("cat/train", FLAT), *below("cat/test", FLAT), DOGS],
            "splits must contain the folders of classes.* with cat/train/ and cat/test/",
        ),
        (
            [*below("a/b", *below("TRAIN", CATS), *below("val", CATS)), *below("c", CATS)],
            "must contain .* with a/b/TRAIN/ and a/b/val/",
        ),
        (
            [*below("fold_0", CATS, DOGS), *below("fold_1", CATS, DOGS)],
            "named as parts must not hold .* with fold_0/cat/ in one of fold_0/ and fold_1/",
        ),
        (
            [f"{a}_{b}/{{n}}.jpg" for a in ("cats", "dogs") for b in ("train", "test")],
            "one split train, .* with cats_test/ and dogs_test/",
        ),
        (below("bus", FLAT) + below("train", FLAT), "if it is a class, .* with train and bus"),
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
