"""The lines that say what was understood of the data."""

import dataclasses

import pytest

from simclrv2_tf.config import Config
from simclrv2_tf.datasets.sources import Contents, ImageDataset
from simclrv2_tf.experiments import data_summary
from simclrv2_tf.experiments.data import Data


def folder(classes, extra=None, name="folder:photos", skipped=(), **contents):
    """A folder with images: split -> class -> number, and split -> number without labels."""
    names = tuple(sorted({name for counts in classes.values() for name in counts}))
    sizes = {split: sum(counts.values()) for split, counts in classes.items()}
    for split, number in (extra or {}).items():
        sizes[split] = sizes.get(split, 0) + number
    held = Contents("photos", classes={**dict.fromkeys(sizes, {}), **classes}, **contents)
    return ImageDataset(name, names, sizes, None, dict.fromkeys(skipped, "bad"), held)


def lines(main, unlabelled=None, **options):
    options = {"dataset": main.name, "train_mode": "pretrain", **options}
    if unlabelled:
        options["unlabelled_dataset"] = unlabelled.name
    return data_summary.lines(Data(main, unlabelled), Config(**options))


HELD_OUT = (
    "Use --split_seed to draw another, a folder test/ alongside train/ to replace it, or "
    "--train_split with --eval_split to divide train differently."
)


def test_a_prepared_set_takes_one_line():
    data = ImageDataset("cifar10", tuple("abc"), {"train": 50000, "test": 10000}, None)
    assert lines(data) == [
        "Data: cifar10. Images: train 50,000, test 10,000; 3 classes; evaluation on test."
    ]
    assert lines(data, eval_split="train[:10%]")[0].endswith("; evaluation on train[:10%].")


def test_a_folder_of_classes():
    classes = {"train": {"cat": 1800, "dog": 1}, "test": {"cat": 200}}
    found = folder(classes, folders={}, held_out="test", eval_split="test")
    assert lines(found) == [
        "Data: folder:photos. Images: train 1,801, test 200; 2 classes; evaluation on test.",
        "  Classes: cat 2,000, dog 1.",
        "  Classes with one image: dog.",
        f"  test was held out of train: a tenth of each class. {HELD_OUT}",
    ]


def test_a_folder_of_splits_with_remarks():
    classes = {"train": {"a": 8, "b": 8}, "validation": {"a": 2}}
    found = folder(
        classes,
        {"test": 6, "unlabelled": 30, "validation": 1},
        name="folder:archive",
        skipped=["a/1.jpg", "a/2.jpg"],
        folders={"train": "Training", "validation": "validation", "unlabelled": "unsup"},
        eval_split="validation",
        unlabelled_split="unlabelled",
        notes=("no images in x; ignored",),
    )
    assert lines(found) == [
        "Data: folder:archive, read from photos. Images: train 16 in Training/, validation 3 "
        "(1 without labels), test 6 without labels, unlabelled 30 in unsup/ without labels; "
        "2 classes; evaluation on validation.",
        "  Classes: a 10, b 8.",
        "  To use test in pretraining and distillation too: --unlabelled_split=train+test.",
        "  No images in x; ignored.",
        "  2 files are listed in skipped_images.csv, with the reasons.",
        "  Pretraining and distillation use train+unlabelled; use --unlabelled_split to change it.",
    ]
    assert lines(found, eval_split="val[:2]+dev")[0].endswith(
        "evaluation on val[:2]+dev, which is validation[:2]+validation."
    )
    assert "use " not in lines(found, unlabelled_split="train")[-1]


def test_a_table_is_named():
    found = folder(
        {"train": {"a": 8, "b": 8}, "validation": {"a": 1}},
        folders={},
        table="labels.csv",
        held_out="validation",
        skipped=["a"],
    )
    first, _, held_out, listed = lines(found)
    assert first.startswith("Data: folder:photos, classes from labels.csv. Images: ")
    assert held_out.startswith("  validation was held out of train: a tenth of each class.")
    assert "a column split in labels.csv to replace it" in held_out
    assert listed == "  1 file is listed in skipped_images.csv, with the reasons."


def test_images_without_classes():
    found = folder({}, {"train": 27, "test": 3}, folders={}, held_out="test", eval_split="test")
    assert lines(found) == [
        "Data: folder:photos. Images: train 27, test 3; no classes; evaluation on test.",
        f"  test was held out of train: a tenth. {HELD_OUT}",
    ]


def test_a_second_data_set():
    more = folder({}, {"train": 90}, folders={}, held_out=None)
    data = ImageDataset("cifar10", tuple("abc"), {"train": 50, "test": 10}, None)
    assert lines(data, more)[1:] == [
        "Unlabelled data: folder:photos. Images: train 90; no classes."
    ]
    more = folder({}, {"train": 90, "unlabelled": 5}, folders={}, unlabelled_split="unlabelled")
    assert lines(data, more)[-1].startswith("  Pretraining and distillation use train+unlabelled;")


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (10, "c00 12, c01 13, c02 14, c03 15, c04 16, c05 17, c06 18, c07 19, c08 20, c09 21."),
        (12, " c09 21 and 2 more, 22 to 23 images each."),
        (400, " c009 21 and 390 more, 22 to 411 images each."),
    ],
)
def test_many_classes_are_counted(number, shown):
    digits = len(str(number - 1)) if number > 10 else 2
    classes = {f"c{n:0{digits}d}": n + 12 for n in range(number)}
    assert shown in lines(folder({"train": classes}, folders={}))[1]


def test_bands_and_what_they_are_read_as():
    classes = {"train": {"a": 8, "b": 8}, "test": {"a": 2}}
    found = folder(classes, folders={}, eval_split="test")
    found = dataclasses.replace(found, stored="5 bands of 16 bits")
    without = "  Without RGB, color jitter only changes brightness and contrast, not hue and "
    without += "saturation, and no view becomes gray."
    said = "  Images: 5 bands of 16 bits; read as 5 bands."
    assert lines(found, channels=5)[2:] == [said, without]
    assert lines(found, channels=5, color_jitter_strength=0)[2:] == [said]
    assert lines(found, channels=5, train_mode="supervised")[2:] == [said]
    assert lines(found, channels=5, train_mode="supervised", labelled_views="pretrain")[3:]
    prepared = ImageDataset("set", (), {"train": 9}, None, stored="gray of 8 bits")
    assert lines(prepared, train_mode="pretrain")[1:] == ["  Images: gray of 8 bits; read as RGB."]
