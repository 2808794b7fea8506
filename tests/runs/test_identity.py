"""A run whose data, weights or folder have changed: it is refused, or says what it did."""

import json
import os
import shutil

import pytest

from helpers import small
from helpers.command_line import files
from helpers.shared_runs import command_line


@pytest.fixture
def own_images(copied_run):
    """A copy of the supervised run, and a copy of its images that may be changed."""
    folder = copied_run("supervised")
    images = folder.parent / "images"
    source = os.readlink(images)
    images.unlink()
    shutil.copytree(source, images)
    return folder, images


def remove(images):
    sorted(images.rglob("*.png"))[0].unlink()


def rename(images):
    """A class changes its place in the order of the classes."""
    for split in images.iterdir():
        first = sorted(split.iterdir())[0]
        first.rename(split / "zz")


def replace(images):
    file = sorted((images / "train").rglob("*.png"))[0]
    file.write_bytes(file.read_bytes() + b"\0")


@pytest.mark.parametrize(
    "change, words",
    [
        (remove, "now has"),
        (rename, "class 0 of folder:images is now"),
        (replace, "the same number of images"),
    ],
)
@pytest.mark.parametrize("mode", ["train_then_eval", "eval"])
def test_changed_data_are_refused(own_images, change, words, mode, capsys):
    folder, images = own_images
    change(images)
    before = files(folder)
    assert small.run([*command_line("supervised"), f"--mode={mode}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error and "the folder was not changed" in error
    assert files(folder) == before


def test_a_finished_run_is_told_before_tensorflow(copied_run, capsys):
    """By the same command, and no more once an output is gone."""
    folder = copied_run("supervised")
    command = command_line("supervised")
    assert small.run(command) == 0  # the copy is finished by its own record
    capsys.readouterr()
    before = files(folder)
    assert small.run(command) == 0
    assert "Finished before; nothing to do." in capsys.readouterr().out
    assert files(folder) == before
    (folder / "encoder.keras").unlink()
    assert small.run(command) == 0
    assert (folder / "encoder.keras").exists()


def test_another_evaluation_leaves_the_runs_own(copied_run, capsys):
    folder = copied_run("supervised")
    before = files(folder)
    command = [*command_line("supervised"), "--mode=eval", "--eval_split=train"]
    assert small.run(command) == 2
    assert "`eval_name` must be given" in capsys.readouterr().err
    assert files(folder) == before
    assert small.run([*command, "--eval_name=train"]) == 0
    after = files(folder)
    assert {path: after[path] for path in before} == before
    assert (folder / "result_train.json").exists()


def test_a_run_records_what_it_is(shared_runs):
    folder = shared_runs("supervised")
    record = json.loads((folder / "run.json").read_text())
    data = record["made_of"]["data"]["main"]
    assert data["name"] == "folder:images" and data["class_names"] == ["dark", "light"]
    assert data["splits"]["train"]["examples"] == 24
    (session,) = record["sessions"]
    assert session["versions"].keys() == {"simclrv2_tf", "python", "tensorflow", "keras", "numpy"}
    assert session["devices"] == ["CPU"] and session["replicas"] == 1
    assert session["began"] <= session["ended"]
    assert not (folder / "owner.json").exists()
