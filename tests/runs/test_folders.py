"""Runs on folders of images in the layouts that people bring."""

import csv
import json

import pytest

from helpers import small
from helpers.colored import save
from helpers.command_line import SMALL, fails, files, result

RUN = ["--mode=train_then_eval", "--train_steps=2", *SMALL]


def write(root, **counts):
    """Writes images to folders of these names, `__` for a separator."""
    for label, (folder, count) in enumerate(counts.items()):
        for number in range(count):
            save(root / folder.replace("__", "/") / f"{number}.png", label, number, (16, 16))
    return root


def run(root, model_dir, *flags):
    command = [*RUN, f"--dataset={root}", f"--model_dir={model_dir}", *flags]
    assert small.run(command, exports=False) == 0


MODES = {
    "supervised": [],
    "linear_eval": ["--eval_split=train"],
    "finetune": ["--label_fraction=0.5"],
    "semi_supervised": ["--label_fraction=0.5"],
}


@pytest.mark.parametrize("mode", MODES)
def test_one_class_is_refused_where_labels_are_used(mode, tmp_path, capsys):
    root = write(tmp_path / "photos", only=20)
    flags = [f"--dataset=folder:{root}", f"--train_mode={mode}", *MODES[mode], *SMALL]
    error = fails([*flags, f"--model_dir={tmp_path / 'run'}"], capsys)
    assert "must have at least two classes. Received: " in error and f"folder:{root}" in error
    assert not (tmp_path / "run").exists()


def test_pretraining_takes_one_class(tmp_path, capsys):
    root = write(tmp_path / "photos", only=20)
    run(root, tmp_path / "run", "--train_mode=pretrain")
    assert "1 class; evaluation on test.\n  Classes: only 20.\n" in capsys.readouterr().out
    found = result(tmp_path / "run")
    assert found["global_step"] == 2
    assert "label_top_1_accuracy" not in found  # of one class, which would be 1


def test_a_folder_for_each_item_is_asked_about(tmp_path, capsys):
    root = write(tmp_path / "photos", **{f"P{n:03d}": 1 for n in range(12)})
    flags = [f"--dataset={root}", "--train_mode=supervised", f"--model_dir={tmp_path / 'run'}"]
    error = fails([*RUN, *flags], capsys)
    assert "12 of 12 classes have one image" in error and "--eval_split=train" in error
    run(root, tmp_path / "run", "--train_mode=supervised", "--eval_split=train")


def test_unlabelled_images_beside_classes_are_pretrained_on(tmp_path, capsys):
    root = write(tmp_path / "photos", cat=10, dog=10, unlabeled=14)
    flags = [
        "--train_mode=semi_supervised",
        "--label_fraction=0.5",
        "--small_student.train_steps=1",
    ]
    run(root, tmp_path / "run", *flags, "--dry_run")  # says what each stage has
    out = capsys.readouterr().out
    said = "use train+unlabelled; use --unlabelled_split to change it."
    assert out.count(said) == out.count("Data: ") == 1  # whatever the number of stages
    assert out.index(said) < out.index("[1/")
    assert "32 images, 18 labels (online classifier)" in out
    # The students see all images, and the supervised stages the labelled ones.
    assert out.count(" 32 images, ") == 3 and out.count(" 8 images, 8 labels, ") == 2
    run(root, tmp_path / "run", "--train_mode=pretrain")
    made_of = json.loads((tmp_path / "run" / "run.json").read_text())["made_of"]
    splits = made_of["data"]["main"]["splits"]
    assert {name: split["examples"] for name, split in splits.items()} == {
        "train": 18,
        "test": 2,
        "train+unlabelled": 32,
    }


def test_a_competition_is_trained_and_evaluated_on_its_training_images(tmp_path, capsys):
    root = write(tmp_path / "photos", train__a=10, train__b=10, test=6)
    run(root, tmp_path / "run", "--train_mode=supervised")
    out = capsys.readouterr().out
    assert "validation 2; 2 classes; evaluation on validation" in out
    assert "test 6 without labels" in out and "validation was held out of train" in out
    assert result(tmp_path / "run")["label_top_1_accuracy"] in (0, 0.5, 1)


def test_skipped_files_are_listed(tmp_path, capsys):
    root = write(tmp_path / "photos", images=12)
    rows = "".join(f"{n}.png,{'ab'[n % 2]}\n" for n in range(11))
    (root / "labels.csv").write_text(f"file,label\n{rows}gone.png,a\n")
    (root / "images" / "3.png").write_bytes(b"no image")
    run(root, tmp_path / "run", "--train_mode=supervised", "--train_batch_size=4")
    assert "3 files are listed in skipped_images.csv, with the reasons." in capsys.readouterr().out
    with open(tmp_path / "run" / "skipped_images.csv", newline="") as file:
        header, *listed = csv.reader(file)
    assert header == ["file", "reason"]
    assert [name for name, _ in listed] == ["gone.png", "images/11.png", "images/3.png"]
    reasons = dict(listed)
    assert reasons["gone.png"] == "in labels.csv, but not found: skipped"
    assert reasons["images/11.png"] == "not in labels.csv: used without a label"
    assert reasons["images/3.png"]  # TensorFlow's words


def test_a_run_is_resumed_by_any_name_of_its_folder(tmp_path, capsys, monkeypatch):
    write(tmp_path / "photos" / "archive", cat=10, dog=10)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
    run("photos", "run")
    out = capsys.readouterr().out
    assert "Data: folder:photos, read from photos/archive. Images: train 18, test 2;" in out
    before = files(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["dataset"] == "folder:photos"
    for name in ("folder:photos", "./photos/", "photos"):
        run(name, "run")
        assert "Finished before; nothing to do." in capsys.readouterr().out
    assert files(tmp_path / "run") == before
