"""Bad input: one line, before any training, and nothing on disk changes."""

import shutil

import keras
import pytest

from helpers import small
from helpers.command_line import SMALL, fails, files
from helpers.shared_runs import command_line
from simclrv2_tf import distribute
from simclrv2_tf.experiments import early


@pytest.fixture(scope="module")
def three_class_model(tmp_path_factory):
    inputs = keras.Input((16, 16, 3))
    outputs = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(inputs))
    path = tmp_path_factory.mktemp("teacher") / "three.keras"
    keras.Model(inputs, outputs).save(path)
    return path


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--resnet_depth=51"], "resnet_depth=51"),
        (["--temperature=0"], "temperature=0"),
        (["--train_batch_size=0"], "train_batch_size=0"),
        (["--dataset=no_such_data_set"], "no_such_data_set"),
        (["--dataset=folder:/no/such/folder"], "/no/such/folder"),
        (["--train_batch_size=10001"], "train_batch_size=10001"),
        (["--use_tpu=True"], "tensorflow-tpu"),
        (["--train_split=nothing"], "nothing"),
        (["--validation_split=nothing"], "Unknown split 'nothing'"),
        (["--mode=eval", "--train_mode=pretrain"], "mode=eval"),
        (["--mode=eval"], "mode=eval"),
        (["--linear_eval.train_batch_size=10001"], "train_batch_size=10001"),
        (["--train_mode=linear_eval", "--checkpoint=nowhere"], "nowhere"),
    ],
)
def test_is_one_line(flags, says, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in fails([*SMALL, *flags] if "batch" not in flags[0] else flags, capsys)
    assert not list(tmp_path.iterdir()), "a refused run leaves nothing behind"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--train_mode=distill", "--teacher=THREE"], "the 2 classes"),
        (["--train_mode=distill", "--teacher=/no/such"], "teacher=/no/such"),
        (["--train_mode=distill", "--teacher=STUDY"], "the whole run"),
        (["--train_mode=distill", "--teacher=STUDY/pretrain/encoder.keras"], "the 2 classes"),
        (["--train_mode=distill", "--teacher=STUDY/pretrain/head.keras"], "to logits"),
        (["--train_mode=distill"], "`teacher`"),
        (["--train_mode=finetune", "--label_fraction=0.05"], "each class a label"),
        (["--train_mode=semi_supervised", "--label_fraction=0.5,0.01"], "each class a label"),
        (["--train_mode=finetune", "--labels_per_class=13"], "12"),
        (["--train_mode=finetune", "--ft_proj_selector=4"], "ft_proj_selector=4"),
        (["--train_mode=semi_supervised", "--fine_tuned.ft_proj_selector=4"], "fine_tuned:"),
        (["--train_mode=finetune", "--labels_per_class=2"], "train_batch_size=8"),
        (["--train_mode=supervised", "--checkpoint=STUDY/pretrain"], "`checkpoint`"),
        (["--train_mode=finetune", "--label_fraction=1.5"], "label_fraction=1.5"),
    ],
)
def test_after_pretraining_is_one_line(
    flags, says, shared_runs, images, three_class_model, tmp_path, capsys
):
    names = {"THREE": str(three_class_model), "STUDY": str(shared_runs("study"))}
    for name, path in names.items():
        flags = [flag.replace(name, path) for flag in flags]
        says = says.replace(name, path)
    command = [f"--dataset=folder:{images}", *SMALL, *flags]
    assert says in fails([*command, f"--model_dir={tmp_path / 'run'}"], capsys)
    assert not list(tmp_path.iterdir()), "a refused run leaves nothing behind"


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["ant", "bee"], "starting with number 0, dark, light. Received"),
        (["light", "dark"], "starting with number 0, dark, light. Received"),
        (["dark", "bee"], "starting with number 1, light. Received"),
    ],
)
def test_a_teacher_of_other_classes_or_of_another_order(
    names, says, shared_runs, images, tmp_path, capsys
):
    teacher = tmp_path / "teacher"
    teacher.mkdir()
    source = shared_runs("study") / "label_fraction_0.5" / "fine_tuned"
    shutil.copy(source / "image_classifier.keras", teacher)
    (teacher / "labels.txt").write_text("".join(f"{name}\n" for name in names))
    command = ["--train_mode=distill", f"--dataset=folder:{images}", *SMALL]
    command += [f"--teacher={teacher}", f"--model_dir={tmp_path / 'run'}"]
    assert says in fails(command, capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("stage", ["pretrain", "label_fraction_0.5/fine_tuned"])
def test_a_teacher_of_labels_that_the_run_may_not_use(
    stage, shared_runs, tmp_path, capsys, monkeypatch
):
    """The online classifier of pretraining has seen all labels."""
    study = shared_runs("study")
    monkeypatch.chdir(study.parent)
    command = ["--train_mode=distill", "--dataset=folder:images", "--label_fraction=0.25", *SMALL]
    command += [f"--teacher={study / stage}", f"--model_dir={tmp_path / 'run'}"]
    used = "all labels" if stage == "pretrain" else "label_fraction=0.5 and label_seed=0"
    assert f"learned from {used} in train_mode" in fails(command, capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--train_mode=distill", "--teacher=TEACHER", "--distill_alpha=0.5"], "`distill_alpha`"),
        (["--train_mode=supervised"], "needs labels"),
        (["--train_mode=linear_eval"], "needs labels"),
        (["--train_mode=finetune", "--label_fraction=0.5"], "needs labels"),
        (["--train_mode=semi_supervised"], "needs labels"),
    ],
)
def test_labels_are_needed_where_they_are_used(flags, says, shared_runs, flat, tmp_path, capsys):
    teacher = str(shared_runs("study") / "label_fraction_0.5" / "fine_tuned")
    flags = [flag.replace("TEACHER", teacher) for flag in flags]
    command = [f"--dataset=folder:{flat}", *SMALL, *flags]
    assert says in fails([*command, f"--model_dir={tmp_path / 'run'}"], capsys)
    assert not (tmp_path / "run").exists()


def test_folder_of_text_files(tmp_path, capsys):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("no image")
    command = [f"--dataset=folder:{tmp_path / 'texts'}", f"--model_dir={tmp_path / 'run'}"]
    assert str(tmp_path / "texts") in fails(command, capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ['{"gone": 1}', '{"mode": "tra'])
def test_a_folder_with_unreadable_options(text, images, tmp_path, capsys):
    (tmp_path / "config.json").write_text(text)
    command = [f"--dataset=folder:{images}", *SMALL, f"--model_dir={tmp_path}"]
    assert "config.json cannot be read" in fails(command, capsys)
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


def test_a_model_dir_that_cannot_be_made_is_one_line(images, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    command = [f"--dataset=folder:{images}", *SMALL, f"--model_dir={tmp_path / 'file' / 'x'}"]
    assert small.run(command) == 1
    error = capsys.readouterr().err
    assert "Error: " in error and "Traceback" not in error


def test_a_label_subset_that_has_changed_is_noticed(copied_run, images, tmp_path, capsys):
    folder = copied_run("supervised")
    (tmp_path / "images").unlink()
    shutil.copytree(images, tmp_path / "images")
    example = (folder / "labelled_examples.txt").read_text().splitlines()[0]
    (tmp_path / "images" / example).unlink()
    (folder / "run.json").unlink()  # as of an earlier version, which knew only the ids
    before = files(folder)
    assert "the data have changed" in fails([*command_line("supervised"), "--mode=train"], capsys)
    assert files(folder) == before


def test_workers_that_share_no_disk_are_told(copied_run, monkeypatch, capsys):
    """One of two has found the run finished, the other a new folder."""
    finished = copied_run("pretrain")
    before = files(finished)
    monkeypatch.setattr(early, "report_finished", lambda config: False)  # as with several workers
    monkeypatch.setattr(distribute, "of_all_replicas", lambda strategy, value: [value, 0])
    error = fails(command_line("pretrain"), capsys)
    assert "`model_dir` must be on a disk that all workers share" in error and "[1, 0]" in error
    assert files(finished) == before
