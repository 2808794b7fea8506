"""A teacher learned from no label that its student's run may not use."""

import json
import types

import numpy as np
import pytest

from simclrv2_tf.config import Config
from simclrv2_tf.experiments import label_budget
from simclrv2_tf.experiments.directory import RunError

IDS = [f"{k}.png" for k in range(40)]


class Split:
    """Forty examples, or the first of them."""

    def __init__(self, count=40):
        self.num_examples = count

    def labels(self):
        return np.array(IDS[: self.num_examples]), np.zeros(self.num_examples, np.int64)


class Data:
    """A data set whose subsets are its first examples; notes whether labels are read."""

    def __init__(self):
        self.main = types.SimpleNamespace(split=lambda name: Split())
        self.read = False

    def labelled_images(self, config):
        self.read = True
        (fraction,) = config.label_fraction or (1,)
        return Split(4 * config.labels_per_class or round(40 * fraction))


def teacher(folder, listed=(), **options):
    """A run with these options, which trained on the examples `listed`."""
    held = {"train_mode": "finetune", "dataset": "folder:photos", **options}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(held))
    if listed:
        (folder / "labelled_examples.txt").write_text("".join(f"{name}\n" for name in listed))
    return folder


def check(folder, dataset="folder:photos", **options):
    config = Config(train_mode="distill", teacher=str(folder), dataset=dataset, **options)
    data = Data()
    label_budget.check(config, data)
    return data.read


TENTH = {"label_fraction": (0.1,)}


@pytest.mark.parametrize(
    ("used", "own"),
    [
        ({"label_fraction": [0.1]}, TENTH),
        ({"label_fraction": [0.01]}, TENTH),
        ({"labels_per_class": 2}, {"labels_per_class": 2}),
        ({"label_fraction": [0.1]}, {}),
        ({}, {}),
        ({"train_mode": "pretrain"}, {}),
        ({}, {"label_fraction": (1,)}),
        ({"label_fraction": [0.1], "label_seed": 3}, {**TENTH, "label_seed": 3}),
        ({"train_mode": "supervised", "label_fraction": [0.1]}, {**TENTH, "distill_alpha": 0.5}),
        ({"train_mode": "distill", "label_fraction": [0.1], "distill_alpha": 0.5}, TENTH),
    ],
)
def test_a_teacher_of_the_same_labels_passes_and_no_label_is_read(used, own, tmp_path):
    assert not check(teacher(tmp_path / "teacher", **used), **own)


@pytest.mark.parametrize(
    ("used", "own", "says"),
    [
        ({"train_mode": "pretrain"}, TENTH, "all labels in train_mode pretrain"),
        ({"train_mode": "pretrain"}, {"labels_per_class": 2}, "all labels in train_mode pretrain"),
        ({}, TENTH, "learned from all labels"),
        ({"train_mode": "linear_eval"}, TENTH, "in train_mode linear_eval"),
        ({"label_fraction": [0.2]}, TENTH, "from label_fraction=0.2 and label_seed=0"),
        ({"labels_per_class": 3}, {"labels_per_class": 2}, "labels_per_class=3"),
        ({"label_fraction": [0.1], "label_seed": 3}, TENTH, "label_seed=3"),
        ({"train_mode": "distill", "distill_alpha": 0.5}, TENTH, "all labels in train_mode dis"),
    ],
)
def test_a_teacher_of_more_or_other_labels_is_refused(used, own, says, tmp_path):
    folder = teacher(tmp_path / "teacher", **used)
    for path in (folder, folder / "image_classifier.keras", folder / "hub" / "30"):
        with pytest.raises(RunError, match=says) as raised:
            check(path, **own)
        text = str(raised.value)
        assert "\n" not in text and f"Received: teacher={path}" in text


def test_amounts_in_two_units_are_compared_by_the_examples(tmp_path):
    """Of four examples in the first tenth, all or some; and without a list."""
    for number, (listed, passes) in enumerate(
        ((IDS[:4], True), (IDS[:2], True), (IDS[:5], False), (IDS[6:7], False), ([], False))
    ):
        folder = teacher(tmp_path / str(number), listed, labels_per_class=1)
        if passes:
            assert check(folder, **TENTH)
        else:
            with pytest.raises(RunError):
                check(folder, **TENTH)
    # All labels are no more than a subset that has them all.
    assert check(teacher(tmp_path / "all"), labels_per_class=10)


def test_a_student_has_the_labels_of_its_own_teacher(tmp_path):
    first = teacher(tmp_path / "first", label_fraction=[0.5])
    second = teacher(tmp_path / "second", train_mode="distill", teacher=str(first))
    third = teacher(tmp_path / "third", train_mode="distill", teacher=str(second))
    with pytest.raises(RunError, match=f"label_seed=0, by its teacher {first} in train_mode fin"):
        check(third, **TENTH)
    assert not check(third, label_fraction=(0.5,))


def test_what_is_not_known_is_said_and_passes(tmp_path, caplog):
    (tmp_path / "bare").mkdir()
    other = teacher(tmp_path / "other", dataset="cifar10")
    gone = teacher(tmp_path / "student", train_mode="distill", teacher=str(tmp_path / "gone"))
    circle = tmp_path / "circle"
    teacher(circle, train_mode="distill", teacher=str(circle))
    for path, says in (
        (tmp_path / "bare" / "model.keras", "is not part of a run"),
        (other, "learned on cifar10"),
        (gone, "is not part of a run"),
        (circle, "is not part of a run"),
    ):
        caplog.clear()
        check(path, **TENTH)
        (record,) = caplog.records
        assert says in record.getMessage() and "label_fraction=0.1" in record.getMessage()


def test_a_folder_is_the_same_by_another_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = teacher(tmp_path / "teacher")
    for name in ("folder:photos", "folder:./photos/", f"folder:{tmp_path}/photos"):
        with pytest.raises(RunError):
            check(folder, dataset=name, **TENTH)
