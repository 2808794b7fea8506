"""Folders of image files: layout, held-out images, damaged files, errors."""

import hashlib
import pathlib

import numpy as np
import pytest
from PIL import Image

from helpers.colored import (
    TEST,
    TRAIN,
    assert_same,
    encoded,
    examples_of,
    ids_of,
    number_of,
    save,
    take,
)
from simclrv2_tf import datasets


def test_folder_with_train_and_test(folder, numbered):
    dataset = numbered["folder"]
    assert dataset.splits == {"train": TRAIN, "test": TEST}
    assert dataset.class_names == ("a", "b", "c")
    assert dataset.default_eval_split == "test"
    assert dataset.num_skipped == 0
    for split in ("train", "test"):
        for example in examples_of(dataset.split(split)):
            path = example["id"].decode()
            label, number = path.split("/")[1], int(pathlib.Path(path).stem)
            assert path.startswith(split) and (folder / path).is_file()
            assert example["label"] == "abc".index(label)
            expected = np.asarray(Image.open(folder / path))
            np.testing.assert_array_equal(example["image"], expected)
            assert expected[0, 0, 1] == number


def ids_in(split):
    return split.labels()[0].tolist()


def test_folder_without_splits_holds_out_a_stable_tenth(tmp_path):
    for label, count in enumerate((20, 30, 1)):
        for number in range(count):
            save(tmp_path / f"class{label}" / "deeper" / f"{number}.jpg", label, number)
    dataset = datasets.open_dataset(f"folder:{tmp_path}")
    assert dataset.splits == {"train": 18 + 27 + 1, "test": 2 + 3}
    train, test = ids_in(dataset.split("train")), ids_in(dataset.split("test"))
    assert not set(train) & set(test) and len(set(train + test)) == 51
    again = datasets.open_dataset(f"folder:{tmp_path}")
    assert (ids_in(again.split("train")), ids_in(again.split("test"))) == (train, test)
    assert ids_in(datasets.open_dataset(f"folder:{tmp_path}", split_seed=1).split("test")) != test
    # By the documented rule, independently: the first by SHA-256 of seed and path.
    paths = sorted(
        (f"class0/deeper/{n}.jpg" for n in range(20)),
        key=lambda path: hashlib.sha256(f"0/{path}".encode()).hexdigest(),
    )
    assert [path for path in test if path.startswith("class0/")] == paths[:2]
    # A slice of a folder sorted by class would hold one class.
    assert {example["label"] for example in examples_of(dataset.split("train[:50%]"))} >= {0, 1}


def test_flat_folder_is_unlabelled(tmp_path):
    for number in range(12):
        save(tmp_path / f"{number}.JPEG", 0, number)
    (tmp_path / "notes.txt").write_text("not an image")
    dataset = datasets.open_dataset(f"folder:{tmp_path}")
    assert dataset.num_classes == 0 and dataset.class_names == ()
    assert dataset.splits == {"train": 11, "test": 1}
    split = dataset.split("train+test")
    assert [example["label"] for example in examples_of(split)] == [-1] * 12
    batches = datasets.training_batches(split, batch_size=5, image_size=8, seed=0)
    ((_, labels),) = take(batches, 1)
    np.testing.assert_array_equal(labels, [-1] * 5)
    batches = take(datasets.evaluation_batches(split, batch_size=5, image_size=8), -1)
    assert all((label == -1).all() for _, label, _ in batches)


@pytest.mark.parametrize("name", ["val", "validation", "Valid", "dev"])
def test_validation_folder_is_a_split(tmp_path, name):
    for number, split in enumerate(("train", name, "test")):
        save(tmp_path / split / "a" / f"{number}.png", 0, 0)
    dataset = datasets.open_dataset(f"folder:{tmp_path}")
    assert dataset.splits == {"train": 1, "validation": 1, "test": 1}
    assert dataset.default_eval_split == "test"
    for spec in ("val", "validation", "valid", "DEV[:100%]"):
        assert ids_in(dataset.split(spec)) == [f"{name}/a/1.png"]
    assert len(ids_in(dataset.split("Training[:1] + val"))) == 2


def damaged_folder(root, count=12):
    """Good images, of which 1 is cut short, 2 is text, 3 is empty and 4 is spoilt inside."""
    rng = np.random.default_rng(0)
    for number in range(count):
        name = f"{'ab'[number % 2]}/{number}.jpg"
        save(root / "train" / name, number % 2, 10 * number, (40, 40))  # JPEG changes it a little
    paths = {int(path.stem): path for path in root.rglob("*.jpg")}
    paths[1].write_bytes(paths[1].read_bytes()[:-200])
    paths[2].write_text("this is not an image at all")
    paths[3].write_bytes(b"")
    spoilt = bytearray(encoded(Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8))))
    spoilt[200:1200] = bytes(1000)  # a PNG whose beginning and end are in order
    paths[4].write_bytes(spoilt)
    save(root / "test" / "a" / "0.jpg", 0, 0)
    return paths


def test_unreadable_images_are_named_counted_and_skipped(tmp_path, caplog):
    damaged_folder(tmp_path)
    with caplog.at_level("WARNING"):
        dataset = datasets.open_dataset(f"folder:{tmp_path}")
    assert dataset.num_skipped == 3
    assert dataset.splits["train"] == 9  # 4 is not known to be bad yet
    for name in ("b/1.jpg", "a/2.jpg", "b/3.jpg"):
        assert sum(f"train/{name}" in record.message for record in caplog.records) == 1

    split = dataset.split("train")
    options = {"batch_size": 9, "image_size": 8, "seed": 0}
    with caplog.at_level("WARNING"):
        batches = take(datasets.training_batches(split, **options), 4)
    assert dataset.num_skipped == 4
    assert sum("train/a/4.jpg" in record.message for record in caplog.records) == 1
    for images, labels in batches:
        numbers = np.rint(np.array(number_of(images)) / 10).astype(int)
        assert set(numbers) == {0, 5, 6, 7, 8, 9, 10, 11}  # another image replaces image 4
        np.testing.assert_array_equal(labels, numbers % 2)
    # The place of the bad image is kept, so resuming stays exact.
    assert_same(take(datasets.training_batches(split, start_step=3, **options), 1)[0], batches[3])

    image, label, weight = take(datasets.evaluation_batches(split, batch_size=9, image_size=8), 1)[
        0
    ]
    assert weight.sum() == 8 and label.shape == (9,)
    assert (image[weight == 0] == 0).all()
    assert len(examples_of(split)) == 8


def test_jpeg_without_end_marker_that_decodes_is_kept(tmp_path):
    save(tmp_path / "a" / "0.png", 0, 0)
    path = save(tmp_path / "a" / "1.jpg", 0, 1, (40, 40))
    path.write_bytes(path.read_bytes() + bytes(1000))  # as some cameras do
    assert datasets.open_dataset(f"folder:{tmp_path}").num_skipped == 0


def test_cached_folder_reads_each_file_once(tmp_path):
    for number in range(6):
        save(tmp_path / "train" / "a" / f"{number}.png", 0, number)
    save(tmp_path / "test" / "a" / "0.png", 0, 0)
    split = datasets.open_dataset(f"folder:{tmp_path}").split("train")
    options = {"batch_size": 6, "image_size": 8, "seed": 0}
    expected = take(datasets.training_batches(split, **options), 4)
    iterator = datasets.training_batches(split, cache=True, **options).as_numpy_iterator()
    cached = [next(iterator)]
    for path in (tmp_path / "train").rglob("*.png"):
        path.unlink()
    cached += [next(iterator) for _ in range(3)]
    assert_same(cached, expected)


def test_labels_of_a_folder_open_no_file(tmp_path):
    for number in range(4):
        save(tmp_path / "train" / "ab"[number % 2] / f"{number}.png", 0, number)
    save(tmp_path / "test" / "a" / "0.png", 0, 0)
    split = datasets.open_dataset(f"folder:{tmp_path}").split("train")
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    assert dict(zip(*split.labels(), strict=True)) == {
        f"train/{'ab'[n % 2]}/{n}.png": n % 2 for n in range(4)
    }


def test_unreadable_image_of_a_subset_is_replaced_from_the_subset(tmp_path):
    damaged_folder(tmp_path)
    dataset = datasets.open_dataset(f"folder:{tmp_path}")
    split = dataset.split("train")
    ids = split.labels()[0].tolist()
    bad = ids.index("train/a/4.jpg")
    follower = ids[(bad + 1) % len(ids)]
    good = next(name for name in ids if name not in (ids[bad], follower))
    subset = split.subset([ids[bad], good])
    number = int(pathlib.Path(good).stem)
    batches = datasets.training_batches(subset, batch_size=2, image_size=8, seed=0)
    for images, labels in take(batches, 3):
        assert np.rint(np.array(number_of(images)) / 10).tolist() == [number] * 2
        assert labels.tolist() == [number % 2] * 2
    assert dataset.num_skipped == 4  # it is reported as any other
    assert ids_of(subset) == [good]


@pytest.mark.parametrize(
    "files, message",
    [
        (None, "existing folder"),
        ([], "must hold images"),
        (["a/x.txt", "b/y.csv"], "must hold images .* and 2 other files"),
        (["a/x.png", "y.jpg"], "none of 1 can be read"),
        (["test/a/x.png"], "there must be a folder train/ alongside it"),
        (["train/a/x.png", "test/b/x.png"], "classes of test/ must all be in train/; b is not"),
        (["train/x.png", "test/b/x.png"], "class folders; train/ and test/ differ"),
    ],
)
def test_bad_folders_are_one_line_errors(tmp_path, files, message):
    root = tmp_path / "root"
    if files is not None:
        root.mkdir()
    for file in files or ():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text("text")
    with pytest.raises(datasets.DatasetError, match=message) as caught:
        datasets.open_dataset(f"folder:{root}")
    assert "\n" not in str(caught.value) and f"Received: folder:{root}" in str(caught.value)
