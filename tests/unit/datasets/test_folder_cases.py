"""Folders in the layouts that people bring, on a disk: the recorded ones and further ones."""

import os
import subprocess
import sys

import pytest

from helpers.colored import save
from helpers.paths import SHARED
from simclrv2_tf import datasets
from simclrv2_tf.datasets import survey

TUMORS = ("glioma", "no_tumor", "pituitary")
# Folder: classes, splits, and the split of the evaluation.
CASES = {
    "plain": (("cat", "dog", "fox"), {"train": 27, "test": 3}, "test"),
    "numeric": (tuple(sorted(map(str, range(12)))), {"train": 36, "test": 12}, "test"),
    "wrapped": (("cat", "dog"), {"train": 18, "test": 2}, "test"),
    "Training_Testing": (TUMORS, {"train": 24, "test": 24}, "test"),
    "Train_Test": (TUMORS, {"train": 24, "test": 24}, "test"),
    "train_valid": (TUMORS, {"train": 24, "validation": 24}, "validation"),
    "train_valid_test": (TUMORS, {"train": 24, "validation": 24, "test": 24}, "test"),
    "training_validation": (TUMORS, {"train": 24, "validation": 24}, "validation"),
    "competition": (("a", "b"), {"train": 14, "test": 6, "validation": 2}, "validation"),
    "flat": ((), {"train": 27, "test": 3}, "test"),
    "one_class": (("only",), {"train": 18, "test": 2}, "test"),
    "csv": (("a", "b"), {"train": 18, "test": 2}, "test"),
    "imbalanced": (("few", "many", "single"), {"train": 39, "test": 5}, "test"),
    "rubbish": (("cat", "dog"), {"train": 18, "test": 2}, "test"),
    "thumbnails": (("cat", "dog"), {"train": 18, "test": 2}, "test"),
    "loop": (("cat", "dog"), {"train": 18, "test": 2}, "test"),
    "latin1_file": (("cat", "dog"), {"train": 17, "test": 2}, "test"),
    "newline": (("cat", "dog"), {"train": 17, "test": 2}, "test"),
    "folder_per_item": (tuple(f"P{n:03d}" for n in range(30)), {"train": 30}, None),
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The folder that holds the recorded layouts."""
    script = SHARED / "cases" / "make_folders.py"
    if not script.exists():
        pytest.skip("the recorded layouts are missing")
    root = tmp_path_factory.mktemp("cases")
    subprocess.run([sys.executable, str(script), str(root)], check=True, capture_output=True)
    return root


@pytest.mark.parametrize("name", CASES)
def test_a_recorded_layout(name, recorded, caplog):
    with caplog.at_level("WARNING"):
        data = datasets.open_dataset(f"folder:{recorded / name}")
    assert (data.class_names, data.splits, data.default_eval_split) == CASES[name]
    assert data.num_skipped == 0
    # A link and the odd names are named; nothing else takes a line.
    assert len(caplog.records) == (name in ("loop", "latin1_file", "newline"))


def test_the_wrapping_folder_may_be_given_or_its_content(recorded):
    outer = datasets.open_dataset(f"folder:{recorded / 'wrapped'}")
    inner = datasets.open_dataset(f"folder:{recorded / 'wrapped' / 'PetImages'}")
    assert outer.contents.location == str(recorded / "wrapped" / "PetImages")
    for split in ("train", "test"):
        assert outer.split(split).fingerprint() == inner.split(split).fingerprint()


def test_labels_and_images_of_a_table_belong_together(recorded):
    split = datasets.open_dataset(f"folder:{recorded / 'csv'}").split("train+test")
    ids, labels = split.labels()
    assert len(ids) == 20
    assert all(label == (int(name[-7:-4]) >= 50) for name, label in zip(ids, labels, strict=True))


def write(root, *folders, count=10):
    for label, folder in enumerate(folders):
        for number in range(count):
            save(root / folder / f"{number}.png", label, number)
    return datasets.open_dataset(f"folder:{root}")


def test_a_test_folder_without_labels_is_a_split_and_train_is_held_out(tmp_path):
    data = write(tmp_path, "train/a", "train/b", "test")
    assert data.splits == {"train": 18, "test": 10, "validation": 2}
    assert data.contents.held_out == data.default_eval_split == "validation"
    assert data.split("validation").num_labels == 2 and data.split("test").num_labels == 0
    ids, labels = data.split("train+test").labels()
    assert [label < 0 for label in labels] == [name.startswith("test/") for name in ids]
    assert data.with_unlabelled("train") == "train"  # the test images are no training images


def test_unlabelled_images_are_a_split(tmp_path):
    data = write(tmp_path, "Train/a", "Train/b", "val/a", "Unlabeled")
    assert data.splits == {"train": 20, "validation": 10, "unlabelled": 10}
    assert data.default_eval_split == "validation" and data.contents.held_out is None
    assert data.with_unlabelled("train[:50%]") == "train[:50%]+unlabelled"
    assert data.with_unlabelled("train+unlabeled") == "train+unlabeled"
    both = data.split(data.with_unlabelled("training"))
    assert (both.num_examples, both.num_labels) == (30, 20)
    assert data.contents.folders == {
        "train": "Train",
        "validation": "val",
        "unlabelled": "Unlabeled",
    }
    assert data.contents.classes == {
        "train": {"a": 10, "b": 10},
        "validation": {"a": 10},
        "unlabelled": {},
    }


def test_a_table_beside_images(tmp_path):
    for number in range(12):
        save(tmp_path / "deep" / "images" / f"{number}.png", number % 2, number)
    rows = [f"{n}.png,{'ab'[n % 2]},{'test' if n > 7 else 'train'}" for n in range(10)]
    table = "\ufeffImage,Class,Split\n" + "\n".join([*rows, "gone.png,a,train", "10.png,,train"])
    (tmp_path / "deep" / "metadata.csv").write_text(table, "utf-8")
    data = datasets.open_dataset(f"folder:{tmp_path}")
    assert data.contents.location == str(tmp_path / "deep")
    assert data.contents.table == "metadata.csv"
    assert data.splits == {"train": 8, "test": 2, "unlabelled": 2}
    assert data.skipped == {
        "gone.png": "in metadata.csv, but not found: skipped",
        "images/11.png": "not in metadata.csv: used without a label",
    }
    ids, labels = data.split("train+test").labels()
    assert labels.tolist() == [int(name[7:-4]) % 2 for name in ids]


def test_another_seed_or_a_deeper_folder_changes_no_more_than_it_says(tmp_path):
    first = write(tmp_path / "a", "cat", "dog", "fox", count=20)
    wrapped = write(tmp_path / "b" / "x" / "y", "cat", "dog", "fox", count=20)
    deep = datasets.open_dataset(f"folder:{tmp_path / 'b'}")
    for split in ("train", "test"):
        prints = {data.split(split).fingerprint() for data in (first, wrapped, deep)}
        assert len(prints) == 1


@pytest.mark.parametrize(
    "name",
    [
        ".DS_Store",
        "._0.png",
        "Thumbs.db",
        "desktop.ini",
        "__MACOSX",
        "Icon\r",
        "@eaDir",
        ".ipynb_checkpoints",
    ],
)
def test_rubbish_is_neither_an_image_nor_a_line(name, tmp_path, caplog):
    write(tmp_path, "cat", "dog")
    for folder in (tmp_path, tmp_path / "cat"):
        if "." in name[1:] or name == "Icon\r":
            (folder / name).write_bytes(b"\0\5\x16\7")
        else:
            save(folder / name / "cat" / "0.png", 0, 0)
    with caplog.at_level("WARNING"):
        data = datasets.open_dataset(f"folder:{tmp_path}")
    assert data.splits == {"train": 18, "test": 2} and data.class_names == ("cat", "dog")
    assert not caplog.records and not data.contents.notes and not data.skipped


@pytest.mark.parametrize("name", ["a\nb.png", "a\r.png", "a\u2028b.png"])
def test_a_name_of_several_lines_is_left_out_and_named(name, tmp_path, caplog):
    write(tmp_path, "cat", "dog")
    os.rename(tmp_path / "cat" / "0.png", tmp_path / "cat" / name)
    os.makedirs(tmp_path / "c\nd")
    save(tmp_path / "c\nd" / "0.png", 2, 0)
    with caplog.at_level("WARNING"):
        data = datasets.open_dataset(f"folder:{tmp_path}")
    assert data.class_names == ("cat", "dog") and sum(data.splits.values()) == 19
    assert [len(record.message.splitlines()) for record in caplog.records] == [1, 1]
    assert sorted(data.skipped) == [r"c\nd", "cat/" + repr(name)[1:-1]]
    assert all(len(path.splitlines()) == 1 for path in data.skipped)
    assert datasets.open_images(str(tmp_path)).num_examples == 19
    with pytest.raises(datasets.DatasetError, match="must be one line") as caught:
        datasets.open_images(str(tmp_path / "cat" / name))
    assert len(str(caught.value).splitlines()) == 1


def test_a_split_and_a_class_without_a_readable_image_are_noted(tmp_path):
    for folder in ("train/a", "train/b", "train/c", "test/a"):
        for number in range(2):
            save(tmp_path / folder / f"{number}.png", 0, number)
            if folder in ("train/c", "test/a"):
                (tmp_path / folder / f"{number}.png").write_bytes(b"<html>")
    data = datasets.open_dataset(f"folder:{tmp_path}")
    assert data.splits == {"train": 4} and data.class_names == ("a", "b", "c")
    assert data.contents.notes == (
        "no image of the split test can be read",
        "no image of the class c can be read",
    )


def test_a_survey_warns_of_nothing(tmp_path, caplog):
    """As opening the images does."""
    write(tmp_path, "cat", "dog")
    os.symlink("../cat", tmp_path / "dog" / "more")
    caplog.clear()
    with caplog.at_level("WARNING"):
        assert survey.survey(f"folder:{tmp_path}").count == 18
    assert not caplog.records
