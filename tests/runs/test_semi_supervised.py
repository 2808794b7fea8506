"""The semi-supervised half from the command line: stages, label subsets, teachers, resuming."""

import csv
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers.command_line import SMALL, SMALL_RUN, fails, files, result
from helpers.small import lessen
from simclrv2_tf import run
from simclrv2_tf.datasets import labels as label_subsets
from simclrv2_tf.weights import teachers

pytestmark = pytest.mark.usefixtures("short_networks")

METHODS = ["supervised", "fine_tuned", "self_distilled", "small_student"]
# Half of the 24 labels; the small student is half as wide.
STUDY = [*SMALL, "--train_mode=semi_supervised", "--label_fraction=0.5"]
STUDY += ["--small_student.width_multiplier=0.03125", "--train_steps=6", "--checkpoint_steps=2"]
FOLDER = "label_fraction_0.5"


@pytest.fixture(scope="module")
def study(images, tmp_path_factory, short_networks):
    root = tmp_path_factory.mktemp("runs") / "study"
    command = ["run", "--mode=train_then_eval", f"--dataset=folder:{images}", *STUDY]
    assert run.main([*command, f"--model_dir={root}"]) == 0
    return root


def weights(folder, name):
    return keras.saving.load_model(folder / f"{name}.keras").get_weights()


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_results_are_those_of_the_stages(study):
    rows = json.loads((study / "results.json").read_text())["rows"]
    assert [(row["label_fraction"], row["method"]) for row in rows] == [(0.5, m) for m in METHODS]
    for row in rows:
        folder = study / FOLDER / row["method"]
        values = result(folder)
        assert row["top1"] == values["label_top_1_accuracy"]
        assert row["expected_calibration_error"] == values["expected_calibration_error"]
        assert row["num_labels"] == 12
        encoder = keras.saving.load_model(folder / "encoder.keras")
        assert row["parameters"] == encoder.count_params()
        spent = [float(r["seconds"]) for r in csv.DictReader((folder / "history.csv").open())]
        assert row["seconds"] == round(sum(spent))
    assert rows[3]["parameters"] < rows[2]["parameters"] == rows[1]["parameters"]
    text = (study / "results.md").read_text()
    for row, line in zip(rows, text.splitlines()[2:], strict=True):
        assert f"{row['top1']:.4f}" in line and "50%" in line
    figures = {path.name for path in (study / "figures").iterdir()}
    names = ("accuracy", "learning_curves", "reliability_50pct")
    assert figures == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}


def test_the_label_subset_is_the_same_and_on_disk_where_labels_are_used(study, images):
    lists = [
        (study / FOLDER / method / "labelled_examples.txt").read_text().splitlines()
        for method in ("supervised", "fine_tuned")
    ]
    assert lists[0] == lists[1] and len(set(lists[0])) == 12
    classes = [path.split("/")[-2] for path in lists[0]]
    assert sorted(classes) == ["dark"] * 6 + ["light"] * 6
    assert all((images / example).exists() for example in lists[0])
    every = sorted(str(p.relative_to(images)) for p in (images / "train").rglob("*.png"))
    labels = [int("light" in example) for example in every]
    drawn = label_subsets.draw(every, labels, ["dark", "light"], label_fraction=0.5, seed=0)
    assert set(drawn) == set(lists[0])
    for method in ("self_distilled", "small_student"):  # alpha = 1: no label at all
        assert not (study / FOLDER / method / "labelled_examples.txt").exists()


def test_fine_tuning_began_at_the_pretrained_and_moved_everything(study):
    tuned, pretrained = study / FOLDER / "fine_tuned", study / "pretrain"
    assert json.loads((tuned / "start.json").read_text())["weights"].startswith("ckpt-6-")
    for name in ("encoder", "head"):
        assert not same(weights(tuned, name), weights(pretrained, name))
    head = keras.saving.load_model(tuned / "head.keras")
    before = keras.saving.load_model(pretrained / "head.keras")
    moved = {
        v.path: not np.array_equal(v, w) for v, w in zip(head.weights, before.weights, strict=True)
    }
    # ft_proj_selector=1: the first layer trains, those beyond are passed on as they were.
    first = [moved[path] for path in moved if "projection1" in path]
    others = [moved[path] for path in moved if "projection1" not in path]
    assert len(first) == 5 and all(first) and others and not any(others)


def test_calibration_beside_accuracy_is_that_of_the_exported_networks(study, images):
    """Predictions of the files that a run leaves, against the paper's formula in loops."""
    folder = study / FOLDER / "self_distilled"
    held = json.loads((folder / "calibration.json").read_text())
    assert set(held) == {"teacher", "student"}
    assert (folder / "calibration.png").read_bytes().startswith(b"\x89PNG")
    for name, path in (("teacher", study / FOLDER / "fine_tuned"), ("student", folder)):
        model = keras.saving.load_model(path / "image_classifier.keras")
        bins = [[] for _ in range(15)]
        for label, kind in enumerate(("dark", "light")):
            for file in (images / "test" / kind).iterdir():
                image = tf.io.decode_png(file.read_bytes()) / 255
                image = tf.clip_by_value(tf.image.resize(image, (16, 16), "bicubic"), 0, 1)
                p = tf.nn.softmax(model(image[None]))[0].numpy()
                confidence = float(p.max())
                bins[int(np.ceil(confidence * 15)) - 1].append((confidence, p.argmax() == label))
        error = sum(
            abs(sum(c for c, _ in members) - sum(r for _, r in members)) for members in bins
        )
        assert held[name]["expected_calibration_error"] == pytest.approx(error / 10, abs=1e-4)
        assert [b["count"] for b in held[name]["bins"]] == [len(members) for members in bins]
    values = result(folder)
    assert values["teacher_label_top_1_accuracy"] == held["teacher"]["top1"]
    assert values["label_top_1_accuracy"] == held["student"]["top1"]


def test_the_same_command_again_does_nothing(study, images, capsys):
    before = {p: p.stat().st_mtime_ns for p in study.rglob("*") if p.parent.name != "figures"}
    first = (study / "results.json").read_text()
    command = ["run", "--mode=train_then_eval", f"--dataset=folder:{images}", *STUDY]
    assert run.main([*command, f"--model_dir={study}"]) == 0
    assert capsys.readouterr().out.count("Finished before") == 5
    assert (study / "results.json").read_text() == first
    for path, time_ns in before.items():
        if path.is_file() and path.parent != study:
            assert path.stat().st_mtime_ns == time_ns, path


@pytest.mark.usefixtures("less_output")
def test_killed_in_the_first_and_the_last_stage_it_ends_as_if_never_stopped(
    study, images, tmp_path, capsys
):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    root = tmp_path / "killed"
    command = ["--mode=train_then_eval", *STUDY]
    command += [f"--dataset=folder:{images}", f"--model_dir={root}"]
    for stage in ["pretrain", f"{FOLDER}/small_student"]:
        process = subprocess.Popen(
            [*SMALL_RUN, "--less_output", *command],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None:
                # Named in this file, a checkpoint is complete.
                if (root / stage / "checkpoints" / "checkpoint").exists():
                    process.send_signal(signal.SIGKILL)
                time.sleep(0.01)
        finally:
            process.kill()
            output = process.communicate()[0].decode()
        assert process.returncode == -signal.SIGKILL, output[-2000:]
        assert not (root / stage / "result.json").exists(), "it ended before it could be killed"
    assert run.main(["run", *command]) == 0
    output = capsys.readouterr().out
    assert output.count("Finished before") == 4 and "Resuming at step" in output
    ended, unbroken = (
        json.loads((folder / "results.json").read_text())["rows"] for folder in (root, study)
    )
    for row, expected in zip(ended, unbroken, strict=True):
        assert {**row, "seconds": 0} == pytest.approx({**expected, "seconds": 0}, abs=1e-3)
    for stage in ["pretrain", *(f"{FOLDER}/{method}" for method in METHODS)]:
        assert epochs(root / stage) == epochs(study / stage)
        for name in ("encoder",) + ("classifier",) * (stage != "pretrain"):
            both = zip(weights(root / stage, name), weights(study / stage, name), strict=True)
            for ours, expected in both:
                scale = max(np.abs(expected).max(), 1e-6)
                np.testing.assert_allclose(ours, expected, atol=1e-3 * scale, err_msg=stage)
    # Of the first stage everything that is kept, the optimizer's momentum among it, and closer.
    ours, expected = (
        tf.train.load_checkpoint(str(folder / "pretrain" / "checkpoints" / "ckpt-6"))
        for folder in (root, study)
    )
    keys = [k for k in ours.get_variable_to_shape_map() if k.startswith("variables/")]
    assert len(keys) > 50 and any("momentum" in key.lower() for key in keys)
    for key in keys:
        value, scale = ours.get_tensor(key), max(np.abs(expected.get_tensor(key)).max(), 1e-6)
        np.testing.assert_allclose(value, expected.get_tensor(key), atol=1e-4 * scale, err_msg=key)


def epochs(folder):
    return [row["epoch"] for row in csv.DictReader((folder / "history.csv").open())]


# --- Distillation ---------------------------------------------------------------------------------


def distill(study, model_dir, *flags, teacher=None):
    teacher = study / FOLDER / "fine_tuned" if teacher is None else teacher
    return [
        *["--mode=train_then_eval", "--train_mode=distill", *SMALL, "--train_steps=3"],
        *[f"--teacher={teacher}", f"--model_dir={model_dir}", *flags],
    ]


def tfds_copy(images, root, relabel):
    """The training and test images as a TFDS set, with the labels that `relabel` gives."""
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["dark", "light"]),
        }
    )

    def examples(split):
        for path in sorted((images / split).rglob("*.png")):
            image = tf.io.decode_png(path.read_bytes()).numpy()
            yield {"image": image, "label": relabel(int(path.parent.name == "light"))}

    tfds.dataset_builders.store_as_tfds_dataset(
        name="shades",
        version="1.0.0",
        features=features,
        split_datasets={
            split: tf.data.Dataset.from_generator(
                functools.partial(examples, split),
                output_signature={
                    "image": tf.TensorSpec((None, None, 3), tf.uint8),
                    "label": tf.TensorSpec((), tf.int64),
                },
            )
            for split in ("train", "test")
        },
        data_dir=root,
    )
    return root


@pytest.mark.usefixtures("less_output")
def test_alpha_1_never_touches_a_label(study, images, tmp_path):
    """Labels replaced by garbage give the same student, bit for bit."""
    students = []
    for name, relabel in (("labels", lambda y: y), ("garbage", lambda y: 1 - y)):
        data = tfds_copy(images, tmp_path / name, relabel)
        model_dir = tmp_path / f"{name}_student"
        flags = ["--dataset=shades", f"--data_dir={data}"]
        assert run.main(["run", *distill(study, model_dir, *flags)]) == 0
        students.append([*weights(model_dir, "encoder"), *weights(model_dir, "classifier")])
    assert same(*students)
    accuracy = [
        result(tmp_path / f"{n}_student")["label_top_1_accuracy"] for n in ("labels", "garbage")
    ]
    assert sum(accuracy) == pytest.approx(1), "the labels of the test images were exchanged"


@pytest.fixture(scope="module")
def student(study, images, tmp_path_factory):
    """A student, and the folder of its teacher, a copy of the study's."""
    root = tmp_path_factory.mktemp("student")
    shutil.copytree(study / FOLDER / "fine_tuned", root / "teacher")
    flags = [f"--dataset=folder:{images}"]
    command = distill(study, root / "student", *flags, teacher=root / "teacher")
    with pytest.MonkeyPatch.context() as patch:
        lessen(patch)
        assert run.main(["run", *command]) == 0
    return root / "student", root / "teacher", command


@pytest.mark.usefixtures("less_output")
def test_below_alpha_1_the_labels_count(student, study, images, tmp_path):
    flags = [f"--dataset=folder:{images}", "--distill_alpha=0.5", "--label_fraction=0.25"]
    command = distill(study, tmp_path, *flags, "--labelled_batch_size=4")
    assert run.main(["run", *command]) == 0
    assert not same(weights(tmp_path, "encoder"), weights(student[0], "encoder"))
    assert len((tmp_path / "labelled_examples.txt").read_text().splitlines()) == 6
    header = (tmp_path / "history.csv").read_text().splitlines()[0].split(",")
    assert {"distill_loss", "teacher_agreement", "label_loss", "top_1_accuracy"} <= set(header)


@pytest.mark.usefixtures("less_output")
def test_every_kind_of_teacher_is_the_same_teacher_and_stays_as_it_was(study, images, tmp_path):
    source = study / FOLDER / "fine_tuned"
    before = files(source)
    saved_model = next((source / "hub").iterdir())
    crops = np.random.default_rng(0).random((5, 16, 16, 3), np.float32)
    expected = teachers.load(str(source)).predict(crops, training=False)
    for other in (source / "image_classifier.keras", saved_model):
        logits = teachers.load(str(other)).predict(crops, training=False)
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    # The study has the run itself for a teacher.
    flags = [f"--dataset=folder:{images}"]
    assert run.main(["run", *distill(study, tmp_path, *flags, teacher=saved_model)]) == 0
    accuracy = result(source)["label_top_1_accuracy"]
    assert result(tmp_path)["teacher_label_top_1_accuracy"] == accuracy
    of_the_study = result(study / FOLDER / "self_distilled")
    assert of_the_study["teacher_label_top_1_accuracy"] == accuracy
    assert files(source) == before


@pytest.mark.usefixtures("less_output")
def test_unlabelled_images_of_another_data_set(study, images, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for i, path in enumerate(sorted((images / "train").rglob("*.png"))):
        (flat / f"{i}.png").write_bytes(path.read_bytes())
    flags = [f"--dataset=folder:{images}", f"--unlabelled_dataset=folder:{flat}"]
    flags += ["--distill_alpha=0.5"]
    assert run.main(["run", *distill(study, tmp_path / "student", *flags)]) == 0
    assert "label_top_1_accuracy" in result(tmp_path / "student")
    # Without a label anywhere, the student is held against its teacher.
    flags = [f"--dataset=folder:{flat}"]
    assert run.main(["run", *distill(study, tmp_path / "alone", *flags)]) == 0
    values = result(tmp_path / "alone")
    assert 0 <= values["teacher_agreement"] <= 1 and "label_top_1_accuracy" not in values


@pytest.mark.usefixtures("less_output")
def test_a_student_may_start_from_weights(study, images, tmp_path):
    flags = [f"--dataset=folder:{images}", f"--checkpoint={study / 'pretrain'}"]
    command = distill(study, tmp_path, *flags, "--learning_rate=1e-20")
    assert run.main(["run", *command]) == 0
    kernels = [
        [w for w in weights(folder, "encoder") if w.ndim == 4]
        for folder in (tmp_path, study / "pretrain")
    ]
    assert same(*kernels), "at no learning rate only the batch statistics move"


# --- Labels held back -----------------------------------------------------------------------------


@pytest.mark.usefixtures("less_output")
def test_labels_held_back_leave_no_online_classifier_and_the_same_encoder(study, images, tmp_path):
    command = ["run", "--mode=train_then_eval", f"--dataset=folder:{images}", *SMALL]
    command += ["--hold_labels_back", "--train_steps=6", f"--model_dir={tmp_path}"]
    assert run.main(command) == 0
    assert not (tmp_path / "classifier.keras").exists() and "contrast_loss" in result(tmp_path)
    assert (study / "pretrain" / "classifier.keras").exists()
    encoders = (weights(folder, "encoder") for folder in (tmp_path, study / "pretrain"))
    for ours, expected in zip(*encoders, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


# --- Bad input: one line, before any training, and nothing left on disk ---------------------------


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
def test_bad_input_is_one_line(flags, says, study, images, three_class_model, tmp_path, capsys):
    names = {"THREE": str(three_class_model), "STUDY": str(study)}
    for name, path in names.items():
        flags = [flag.replace(name, path) for flag in flags]
        says = says.replace(name, path)
    command = [f"--dataset=folder:{images}", *SMALL, *flags]
    assert says in fails([*command, f"--model_dir={tmp_path / 'run'}"], capsys)
    assert not list(tmp_path.iterdir()), "a refused run leaves nothing behind"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--train_mode=distill", "--teacher=TEACHER", "--distill_alpha=0.5"], "`distill_alpha`"),
        (["--train_mode=supervised"], "needs labels"),
        (["--train_mode=finetune", "--label_fraction=0.5"], "needs labels"),
        (["--train_mode=semi_supervised"], "needs labels"),
    ],
)
def test_labels_are_needed_where_they_are_used(flags, says, study, images, tmp_path, capsys):
    flat = tmp_path / "flat"
    flat.mkdir()
    source = next(images.rglob("*.png"))
    for i in range(20):
        (flat / f"{i}.png").write_bytes(source.read_bytes())
    teacher = str(study / FOLDER / "fine_tuned")
    flags = [flag.replace("TEACHER", teacher) for flag in flags]
    command = [f"--dataset=folder:{flat}", *SMALL, *flags]
    assert says in fails([*command, f"--model_dir={tmp_path / 'run'}"], capsys)
    assert not (tmp_path / "run").exists()


def test_another_teacher_in_the_same_folder_changes_nothing(student, study, capsys):
    folder, teacher, command = student
    shutil.rmtree(teacher)
    shutil.copytree(study / FOLDER / "supervised", teacher)
    before = files(folder)
    assert "other weights" in fails(command, capsys)
    assert files(folder) == before


@pytest.mark.usefixtures("less_output")
def test_a_label_subset_that_has_changed_is_noticed(images, tmp_path, capsys):
    data = tmp_path / "images"
    shutil.copytree(images, data)
    command = ["--train_mode=supervised", f"--dataset=folder:{data}", *SMALL, "--train_steps=1"]
    command += ["--labels_per_class=6", f"--model_dir={tmp_path / 'run'}"]
    assert run.main(["run", *command]) == 0
    for example in (tmp_path / "run" / "labelled_examples.txt").read_text().splitlines()[:1]:
        (data / example).unlink()
    before = files(tmp_path / "run")
    assert "the data has changed" in fails(command, capsys)
    assert files(tmp_path / "run") == before
