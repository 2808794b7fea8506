"""Pretraining from the command line: the run directory, its exports, and the same command again."""

import csv
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers import small
from helpers.command_line import SMALL, fails, files, keras_weights, result, same
from helpers.shared_runs import command_line
from simclrv2_tf.experiments import report_page

HEALTH = {"representation_rank", "representation_spread", "embedding_rank", "embedding_spread"}
HEALTH |= {"alignment", "uniformity"}


@pytest.fixture(scope="module")
def pretrained(shared_runs):
    return shared_runs("pretrain")


def test_run_directory_has_what_it_promises(pretrained):
    assert json.loads((pretrained / "config.json").read_text())["resnet_depth"] == 10
    values = result(pretrained)
    assert (
        set(values)
        == {
            "images",
            "label_top_1_accuracy",
            "label_top_1_low",
            "label_top_1_high",
            "label_top_5_accuracy",
            "loss",
            "expected_calibration_error",
            "global_step",
            "encoder_parameters",
        }
        | HEALTH
    )
    assert values["global_step"] == 24 * 2 // 8 + 1
    assert values["label_top_5_accuracy"] == 1  # of 2 classes
    # 10 test images in one padded batch of 256.
    assert values["label_top_1_accuracy"] * 10 == pytest.approx(
        round(values["label_top_1_accuracy"] * 10)
    )
    rows = list(csv.DictReader((pretrained / "history.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert {"contrast_loss", "contrast_accuracy", "contrast_entropy"} <= rows[0].keys()
    assert {"probe_accuracy", "learning_rate", "seconds"} <= rows[0].keys()
    assert [p.name for p in (pretrained / "checkpoints").glob("*.index")] == ["ckpt-7.index"]
    assert (pretrained / "views.png").read_bytes().startswith(b"\x89PNG")
    drawn = list(csv.DictReader((pretrained / "learning_curves.csv").open()))
    columns = (("pretraining", "contrast_loss", 1), ("online classifier", "probe_accuracy", 100))
    assert [(r["curve"], float(r["x"]), float(r["y"])) for r in drawn] == [
        (curve, float(row["epoch"]), scale * float(row[column]))
        for curve, column, scale in columns
        for row in rows
    ]
    assert (pretrained / "learning_curves.svg").exists()
    assert [p.name for p in (pretrained / "hub").iterdir()] == ["7"]
    tags = {}
    for name in ("train", "eval"):
        logs = EventAccumulator(str(pretrained / "logs" / name)).Reload()
        tags[name] = {*logs.Tags()["tensors"]}
    # Those of the online classifier; the loss of all that trains is another quantity.
    assert {"top_1_accuracy", "probe_loss", "representation/rank"} <= tags["train"] & tags["eval"]
    assert "loss" in tags["train"] - tags["eval"]


def test_exports_agree_with_each_other_and_with_the_result(pretrained, images):
    models = {
        name: keras.saving.load_model(pretrained / f"{name}.keras")
        for name in ("encoder", "head", "classifier")
    }
    module = tf.saved_model.load(str(pretrained / "hub" / "7"))
    right = 0
    for label, name in enumerate(("dark", "light")):
        for path in sorted((images / "test" / name).iterdir()):
            image = tf.io.decode_png(path.read_bytes()) / 255
            image = tf.clip_by_value(tf.image.resize(image, (16, 16), "bicubic"), 0, 1)[None]
            outputs = module.signatures["serving_default"](image)
            hiddens = models["head"](models["encoder"](image))
            np.testing.assert_allclose(outputs["projection"], hiddens[-1], rtol=1e-3, atol=1e-5)
            logits = models["classifier"](hiddens[0])
            np.testing.assert_allclose(outputs["logits"], logits, rtol=1e-3, atol=1e-6)
            right += int(np.argmax(outputs["logits"]) == label)
    assert result(pretrained)["label_top_1_accuracy"] == pytest.approx(right / 10)


def test_the_same_command_again_does_nothing_twice(copied_run, capsys):
    folder = copied_run("pretrain")
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.keras")}
    command = command_line("pretrain")
    report_page.write([str(folder)])  # a report of a finished run leaves it finished
    assert small.run(command) == 0
    assert "Finished before" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.keras")} == before
    assert small.run([*command, "--mode=eval", "--eval_name=again"]) == 0
    again = json.loads((folder / "result_again.json").read_text())
    assert again == pytest.approx(result(folder))


def test_a_finished_run_is_evaluated_again_for_the_embedding_projector(copied_run, capsys):
    folder = copied_run("pretrain")
    weights, before = keras_weights(folder, "encoder"), result(folder)
    assert small.run([*command_line("pretrain"), "--embedding_projector"]) == 0
    logs = folder / "logs" / "eval"
    assert f"Projector tab in {folder.name}/logs/eval" in capsys.readouterr().out
    with np.load(folder / "representations.npz") as sampled:
        numbers = np.loadtxt(logs / "representations.tsv", delimiter="\t", dtype=np.float16)
        np.testing.assert_array_equal(numbers, sampled["representations"])
        classes = [("dark", "light")[label] for label in sampled["labels"]]
        table = list(csv.DictReader((logs / "metadata.tsv").open(), delimiter="\t"))
        assert table == [
            {"class": name, "file": file}
            for name, file in zip(classes, sampled["ids"].tolist(), strict=True)
        ]
    assert len(table) == 10 and (logs / "projector_config.pbtxt").exists()
    assert same(keras_weights(folder, "encoder"), weights)
    assert result(folder) == pytest.approx(before)
    assert small.run([*command_line("pretrain"), "--embedding_projector"]) == 0
    assert "Finished before" in capsys.readouterr().out


def test_another_network_in_the_same_folder_changes_nothing(copied_run, capsys):
    folder = copied_run("pretrain")
    before = files(folder)
    message = fails([*command_line("pretrain"), "--width_multiplier=0.125"], capsys)
    assert "width_multiplier=0.0625 in the folder, 0.125 here" in message
    assert files(folder) == before


def test_unlabelled_images_give_contrastive_metrics(flat, tmp_path):
    command = ["--mode=train_then_eval", f"--dataset=folder:{flat}", *SMALL]
    assert small.run([*command, "--train_steps=2", f"--model_dir={tmp_path}"]) == 0
    values = result(tmp_path)
    assert (
        set(values)
        == {
            "contrast_loss",
            "contrast_accuracy",
            "contrast_entropy",
            "global_step",
            "encoder_parameters",
        }
        | HEALTH
    )
    assert np.isfinite(values["contrast_loss"])
    assert not (tmp_path / "classifier.keras").exists()
    module = tf.saved_model.load(str(tmp_path / "hub" / "2"))
    assert "logits" not in module.signatures


def test_labels_held_back_leave_no_online_classifier_and_the_same_encoder(
    pretrained, shared_runs, tmp_path, monkeypatch
):
    monkeypatch.chdir(shared_runs.root)
    command = [*command_line("pretrain"), "--hold_labels_back", f"--model_dir={tmp_path}"]
    assert small.run(command, exports=False) == 0
    assert not (tmp_path / "classifier.keras").exists() and "contrast_loss" in result(tmp_path)
    assert (pretrained / "classifier.keras").exists()
    encoders = (keras_weights(folder, "encoder") for folder in (tmp_path, pretrained))
    for ours, expected in zip(*encoders, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
