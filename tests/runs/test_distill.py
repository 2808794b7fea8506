"""Distillation from the command line: kinds of teachers, labels or none, and resuming."""

import shutil

import numpy as np
import pytest

from helpers import small
from helpers.command_line import SMALL, change_a_weight, fails, files, keras_weights, result, same
from helpers.relabelled import tfds_copy
from helpers.shared_runs import command_line
from simclrv2_tf.weights import teachers

FOLDER = "label_fraction_0.5"


@pytest.fixture(scope="module")
def study(shared_runs):
    return shared_runs("study")


def distill(teacher, model_dir, *flags):
    """Distills the run, model or SavedModel `teacher`."""
    command = ["--mode=train_then_eval", "--train_mode=distill", *SMALL, "--train_steps=3"]
    command += [f"--teacher={teacher}", f"--model_dir={model_dir}", *flags]
    assert small.run(command, exports=False) == 0


@pytest.fixture(scope="module")
def students(study, images, tmp_path_factory):
    """Of a SavedModel: students by labels, by labels replaced by garbage, and by alpha below 1."""
    root, source = tmp_path_factory.mktemp("students"), study / FOLDER / "fine_tuned"
    before, teacher = files(source), next((source / "hub").iterdir())
    for name, relabel in (("labels", lambda y: y), ("garbage", lambda y: 1 - y)):
        data = tfds_copy(images, root / f"{name}_data", relabel)
        distill(teacher, root / name, "--dataset=shades", f"--data_dir={data}")
    few = ["--distill_alpha=0.5", "--label_fraction=0.25", "--labelled_batch_size=4"]
    data = root / "labels_data"
    distill(teacher, root / "below_1", "--dataset=shades", f"--data_dir={data}", *few)
    assert files(source) == before, "a teacher stays as it was"
    return root


def test_alpha_1_never_touches_a_label(students):
    """Labels replaced by garbage give the same student, bit for bit."""
    for name in ("encoder", "classifier"):
        assert same(*(keras_weights(students / kind, name) for kind in ("labels", "garbage")))
    accuracy = [result(students / kind)["label_top_1_accuracy"] for kind in ("labels", "garbage")]
    assert sum(accuracy) == pytest.approx(1), "the labels of the test images were exchanged"


def test_below_alpha_1_the_labels_count(students):
    folder = students / "below_1"
    assert not same(*(keras_weights(f, "encoder") for f in (folder, students / "labels")))
    assert len((folder / "labelled_examples.txt").read_text().splitlines()) == 6
    header = (folder / "history.csv").read_text().splitlines()[0].split(",")
    assert {"distill_loss", "teacher_agreement", "label_loss", "top_1_accuracy"} <= set(header)


def test_every_kind_of_teacher_is_the_same_teacher(study, students):
    source = study / FOLDER / "fine_tuned"
    before = files(source)
    crops = np.random.default_rng(0).random((5, 16, 16, 3), np.float32)
    expected = teachers.load(str(source), small.resnet).predict(crops, training=False)
    for other in (source / "image_classifier.keras", next((source / "hub").iterdir())):
        logits = teachers.load(str(other)).predict(crops, training=False)
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    # The study had the run itself for a teacher, the other student its SavedModel.
    accuracy = result(source)["label_top_1_accuracy"]
    for student in (study / FOLDER / "self_distilled", students / "labels"):
        assert result(student)["teacher_label_top_1_accuracy"] == accuracy
    assert files(source) == before


def test_unlabelled_images_of_another_data_set_and_weights_to_start_from(
    study, images, flat, tmp_path
):
    """The teacher stays as it was; at no learning rate only the student's batch statistics move."""
    teacher = study / FOLDER / "fine_tuned"
    before = files(teacher)
    flags = [f"--dataset=folder:{images}", f"--unlabelled_dataset=folder:{flat}"]
    flags += ["--distill_alpha=0.5", f"--checkpoint={study / 'pretrain'}", "--learning_rate=1e-20"]
    distill(teacher, tmp_path, *flags)
    assert "label_top_1_accuracy" in result(tmp_path)
    kernels = [
        [w for w in keras_weights(folder, "encoder") if w.ndim == 4]
        for folder in (tmp_path, study / "pretrain")
    ]
    assert same(*kernels)
    assert files(teacher) == before


def test_a_teacher_without_names_is_compared_by_its_number_of_classes(
    study, images, tmp_path, caplog
):
    source = study / FOLDER / "fine_tuned" / "image_classifier.keras"
    (tmp_path / "lone").mkdir()
    lone = shutil.copy(source, tmp_path / "lone")
    for teacher, warned in ((source, False), (lone, True)):
        caplog.clear()
        folder = tmp_path / f"run{int(warned)}"
        distill(teacher, folder, f"--dataset=folder:{images}")
        assert ("only the number of classes" in caplog.text) == warned
        assert (folder / "result.json").exists()


def test_without_a_label_anywhere_the_student_is_held_against_its_teacher(study, flat, tmp_path):
    distill(study / FOLDER / "fine_tuned", tmp_path, f"--dataset=folder:{flat}")
    values = result(tmp_path)
    assert 0 <= values["teacher_agreement"] <= 1 and "label_top_1_accuracy" not in values


def test_another_teacher_than_the_run_began_with_changes_nothing(copied_run, capsys):
    folder = copied_run("study")
    change_a_weight(folder / FOLDER / "fine_tuned")
    before = files(folder)
    assert "other weights" in fails(command_line("study"), capsys)
    assert files(folder) == before


def with_names(source, root, **names):
    """A copy of the images whose class folders have other names."""
    for path in source.glob("*/*"):
        target = root / path.relative_to(source)
        (target.parent / names[target.name]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(path, target.parent / names[target.name])
    return root


def test_a_teacher_of_other_classes_is_refused(images, shared_runs, copied_run, tmp_path, capsys):
    """By their names, in their order; as many classes are not enough."""
    command = ["--mode=train_then_eval", "--train_mode=distill", *SMALL, "--train_steps=1"]
    command += [f"--model_dir={tmp_path / 'run'}"]
    teacher = shared_runs("supervised")
    insects = with_names(images, tmp_path / "insects", dark="ant", light="bee")
    flags = [f"--dataset=folder:{insects}", f"--teacher={teacher}"]
    assert "starting with number 0, ant, bee." in fails([*command, *flags], capsys)
    swapped = copied_run("supervised")
    (swapped / "labels.txt").write_text("light\ndark\n")
    for path in (swapped, swapped / "image_classifier.keras"):
        flags = [f"--dataset=folder:{images}", f"--teacher={path}"]
        assert "starting with number 0, dark, light." in fails([*command, *flags], capsys)
    assert not (tmp_path / "run").exists()
