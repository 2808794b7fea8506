"""The semi-supervised half from the command line: its stages, label subsets and results."""

import csv
import gc
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import report_runs, small
from helpers.command_line import files, keras_weights, result, same
from helpers.shared_runs import FLAGS, METHODS, command_line
from simclrv2_tf import report
from simclrv2_tf.datasets import labels as label_subsets
from simclrv2_tf.experiments import execution
from simclrv2_tf.stages.base import Stage

FOLDER = "label_fraction_0.5"
METHODS_IN_WORDS = {name: method.name for name, method in report.METHODS.items()}


@pytest.fixture(scope="module")
def study(shared_runs):
    return shared_runs("study")


def test_a_stage_that_has_ended_keeps_its_last_checkpoint_alone(study):
    """Of three that it made; the run resumed and finished by it all the same (below)."""
    folders = [study / "pretrain", *((study / FOLDER) / method for method in METHODS)]
    for folder in folders:
        assert [p.name for p in (folder / "checkpoints").glob("*.index")] == ["ckpt-6.index"]


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
        assert f" {100 * row['top1']:.1f} (" in line and " 12 " in line
    figures = {path.name for path in (study / "figures").iterdir()}
    names = ("accuracy", "learning_curves", "reliability_50pct")
    assert figures == {f"{name}.{kind}" for name in names for kind in ("png", "svg", "csv")}
    for method in METHODS:
        history = list(csv.DictReader((study / FOLDER / method / "history.csv").open()))
        column = "teacher_agreement" if "teacher_agreement" in history[0] else "top_1_accuracy"
        name = METHODS_IN_WORDS[method]
        drawn = [
            (float(r["x"]), float(r["y"]))
            for r in csv.DictReader((study / "figures" / "learning_curves.csv").open())
            if r["curve"] == name
        ]
        last = float(history[-1]["epoch"])
        assert drawn == [(100 * float(r["epoch"]) / last, 100 * float(r[column])) for r in history]
    points = csv.DictReader((study / "figures" / "accuracy.csv").open())
    assert {(r["method"], float(r["top-1 accuracy (%)"])) for r in points} == {
        (METHODS_IN_WORDS[row["method"]], 100 * row["top1"]) for row in rows
    }


def test_predictions_are_those_of_the_exported_networks(study, images):
    """Image by image; and what results say of accuracy and gain is of these predictions."""
    rows = json.loads((study / "results.json").read_text())["rows"]
    right = {}
    for row in rows:
        folder = study / FOLDER / row["method"]
        model = keras.saving.load_model(folder / "image_classifier.keras")
        held = list(csv.DictReader((folder / "predictions.csv").open()))
        kept = sorted(str(p.relative_to(images)) for p in (images / "test").rglob("*.png"))
        assert sorted(entry["file"] for entry in held) == kept
        for entry in held:
            image = tf.io.decode_png((images / entry["file"]).read_bytes()) / 255
            image = tf.clip_by_value(tf.image.resize(image, (16, 16), "bicubic"), 0, 1)
            shares = tf.nn.softmax(model(image[None]))[0].numpy()
            assert entry["class"] == entry["file"].split("/")[1]
            assert float(entry["confidence"]) == pytest.approx(shares.max(), abs=1e-4)
            if abs(shares[0] - shares[1]) > 1e-3:
                assert entry["predicted"] == ("dark", "light")[shares.argmax()]
        right[row["method"]] = np.array([e["class"] == e["predicted"] for e in held])
        own = right[row["method"]]
        assert row["images"] == 10 and row["top1"] == pytest.approx(own.mean())
        assert row["top1_low"] <= row["top1"] <= row["top1_high"]
        assert row["top1_high"] - row["top1_low"] > 0.2  # of ten images
        if row["method"] == "supervised":
            assert "gain" not in row
        else:
            assert row["gain"] == pytest.approx(own.mean() - right["supervised"].mean())
            assert row["gain_low"] <= row["gain"] <= row["gain_high"]
            assert 0 < row["gain_p_value"] <= 1


def test_the_report_has_the_numbers_of_the_results(study):
    page = report_runs.Page((study / "report.html").read_text())
    rows = json.loads((study / "results.json").read_text())["rows"]
    shown = page.table("labels", "method")
    assert len(shown) == len(rows)
    names = {"top1": "top-1", "expected_calibration_error": "ECE", "parameters": "parameters"}
    for row, cells in zip(rows, shown, strict=True):
        assert cells["labels"][0] == "50%"
        assert float(cells["number of labels"][1]) == row["num_labels"]
        for key, column in names.items():
            assert float(cells[column][1]) == row[key]
    times = {cells["stage"][0]: float(cells["seconds"][1]) for cells in page.table("stage")}
    for row in rows:
        name = METHODS_IN_WORDS[row["method"]]
        assert round(times[f"{name}, 50% of the labels"]) == row["seconds"]
    assert "10 test images" in page.text
    assert len(page.ids) == len({*page.ids}) and not page.unclosed


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
    assert json.loads((tuned / "run.json").read_text())["made_of"]["weights"].startswith("ckpt-6-")
    for name in ("encoder", "head"):
        assert not same(keras_weights(tuned, name), keras_weights(pretrained, name))
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
    assert not (folder / "calibration.png").exists()  # the run's own figures show all stages
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


def test_without_weights_or_a_head_to_pass_on_none_is_exported(study):
    folder = study / FOLDER / "supervised"
    assert not (folder / "head.keras").exists()
    module = tf.saved_model.load(str(folder / "hub" / "6"))
    assert "projection" not in module.signatures and "logits" in module.signatures


def test_of_several_stages_only_pretraining_leaves_a_saved_model_unless_asked(copied_run, capsys):
    study = copied_run("study")
    student = study / FOLDER / "self_distilled"
    assert (study / "pretrain" / "hub" / "6" / "saved_model.pb").exists()
    assert (
        not (student / "hub").exists() and "top-1 accuracy" in (student / "README.md").read_text()
    )
    before = {path: data for path, data in files(student).items() if "logs" not in path.parts}
    assert small.run([*command_line("study"), "--export_formats=saved_model"]) == 0
    capsys.readouterr()
    after = {path: data for path, data in files(student).items() if "logs" not in path.parts}
    changed = {path for path in before if before[path] != after[path]}
    assert {path.name for path in changed} == {"config.json", "run.json"}
    module = tf.saved_model.load(str(student / "hub" / "6"))
    model = keras.saving.load_model(student / "image_classifier.keras")
    images = tf.random.stateless_uniform((3, 16, 16, 3), (1, 2))
    np.testing.assert_allclose(module(images), model(images), rtol=1e-4, atol=1e-5)


def live_variables():
    """Counts variables, except frozen ones: a run freezes the objects that exist before it."""
    gc.collect()
    return sum(isinstance(held, tf.Variable) for held in gc.get_objects())


def test_stages_that_share_what_is_traced_train_as_if_alone(study, monkeypatch, tmp_path):
    """With half of the labels after three quarters: the weights of a run of only that half.

    While it runs, only networks that a later stage needs again are kept; afterwards none.
    """
    traced, kept = [], {}
    update, execute = Stage.update, execution.execute
    before = live_variables()

    def counted(self, data):
        traced.append(type(self).__name__)
        update(self, data)

    def counted_after(run, *args):
        found = execute(run, *args)
        kept[str(run.directory.path.relative_to(tmp_path))] = live_variables()
        return found

    monkeypatch.setattr(Stage, "update", counted)
    monkeypatch.setattr(execution, "execute", counted_after)
    monkeypatch.chdir(study.parent)
    command = [*FLAGS["study"], "--label_fraction=0.75,0.5", f"--model_dir={tmp_path}"]
    assert small.run(command, exports=False) == 0
    # Supervised and fine-tuned; self-distilled and small student: once for both fractions.
    assert sorted(traced) == ["Classifier"] * 2 + ["Distiller"] * 2 + ["Pretrainer"]
    # Pretraining has no twin; each of the others has one, which is the last to need its networks.
    first, second = (
        [kept[f"label_fraction_{fraction}/{method}"] for method in METHODS]
        for fraction in ("0.75", "0.5")
    )
    assert kept["pretrain"] == 0 < first[0] and first == sorted(set(first))
    added = np.diff([0, *first])
    np.testing.assert_array_equal(np.diff([first[-1], *second]), -added)
    assert second[-1] == 0 and live_variables() == before
    for method in METHODS:
        shared, alone = tmp_path / FOLDER / method, study / FOLDER / method
        for name in ("encoder", "classifier"):
            assert same(keras_weights(shared, name), keras_weights(alone, name)), (method, name)
        metrics = [
            {k: v for k, v in row.items() if k != "seconds"}
            for folder in (shared, alone)
            for row in csv.DictReader((folder / "history.csv").open())
        ]
        assert metrics[: len(metrics) // 2] == metrics[len(metrics) // 2 :], method
        assert result(shared) == result(alone), method


def test_the_same_command_again_does_nothing(copied_run, capsys):
    study = copied_run("study")
    before = {p: p.stat().st_mtime_ns for p in study.rglob("*") if p.parent.name != "figures"}
    first = (study / "results.json").read_text()
    assert small.run(command_line("study")) == 0
    assert capsys.readouterr().out.count("Finished before") == 1
    assert (study / "results.json").read_text() == first
    for path, time_ns in before.items():
        if path.is_file() and path.parent != study:
            assert path.stat().st_mtime_ns == time_ns, path
