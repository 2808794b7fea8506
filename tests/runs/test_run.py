"""The command line from end to end: the run directory, resuming, exports, and bad input."""

import csv
import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers.command_line import SMALL, SMALL_RUN, fails, files, result
from simclrv2_tf import run

pytestmark = pytest.mark.usefixtures("short_networks")

HEALTH = {"representation_rank", "representation_spread", "embedding_rank", "embedding_spread"}
HEALTH |= {"alignment", "uniformity"}


@pytest.fixture(scope="module")
def pretrained(images, tmp_path_factory, short_networks):
    model_dir = tmp_path_factory.mktemp("runs") / "pretrain"
    status = run.main(
        ["run", "--mode=train_then_eval", f"--dataset=folder:{images}", *SMALL]
        + ["--train_epochs=2", f"--model_dir={model_dir}", "--keep_checkpoint_max=1"]
    )
    assert status == 0
    return model_dir


def test_run_directory_has_what_it_promises(pretrained):
    assert json.loads((pretrained / "config.json").read_text())["resnet_depth"] == 10
    values = result(pretrained)
    assert (
        set(values)
        == {
            "label_top_1_accuracy",
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
    assert [p.name for p in (pretrained / "hub").iterdir()] == ["7"]
    assert list((pretrained / "logs" / "train").glob("events*"))
    assert list((pretrained / "logs" / "eval").glob("events*"))


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


def test_the_same_command_again_does_nothing_twice(pretrained, images, capsys):
    before = {p: p.stat().st_mtime_ns for p in pretrained.rglob("*.keras")}
    command = ["run", "--mode=train_then_eval", f"--dataset=folder:{images}", *SMALL]
    command += ["--train_epochs=2", f"--model_dir={pretrained}", "--keep_checkpoint_max=1"]
    assert run.main(command) == 0
    assert "Finished before" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in pretrained.rglob("*.keras")} == before
    command[1] = "--mode=eval"
    assert run.main([*command, "--eval_name=again"]) == 0
    again = json.loads((pretrained / "result_again.json").read_text())
    assert again == pytest.approx(result(pretrained))


@pytest.mark.usefixtures("less_output")
def test_linear_evaluation_leaves_the_encoder_as_it_was(pretrained, images, tmp_path):
    """The reference's own way, with the options of its README."""
    command = ["run", "--mode=train_then_eval", f"--dataset=folder:{images}", *SMALL]
    command += ["--train_mode=finetune", "--fine_tune_after_block=4"]
    command += ["--zero_init_logits_layer=True", "--global_bn=False"]
    command += [r"--variable_schema=(?!global_step|(?:.*/|^)Momentum|head)"]
    command += ["--optimizer=momentum", "--weight_decay=1e-6", "--train_steps=4"]
    command += [f"--checkpoint={pretrained}", f"--model_dir={tmp_path / 'linear'}"]
    assert run.main(command) == 0
    assert result(tmp_path / "linear")["global_step"] == 4
    for name, same in (("encoder", True), ("head", True), ("classifier", False)):
        first, second = (
            keras.saving.load_model(folder / f"{name}.keras").get_weights()
            for folder in (pretrained, tmp_path / "linear")
        )
        assert same == all(np.array_equal(a, b) for a, b in zip(first, second, strict=True)), name


def test_linear_evaluation_without_a_head_to_pass_on_exports_none(images, tmp_path):
    command = ["run", "--train_mode=linear_eval", f"--dataset=folder:{images}", *SMALL]
    assert run.main([*command, "--train_steps=1", f"--model_dir={tmp_path}"]) == 0
    assert not (tmp_path / "head.keras").exists()
    module = tf.saved_model.load(str(tmp_path / "hub" / "1"))
    assert "projection" not in module.signatures and "logits" in module.signatures


def test_two_replicas_in_bfloat16_train_and_evaluate(images, tmp_path):
    """In a process of its own: logical CPUs must be made first."""
    command = [*SMALL_RUN, "--less_output", "--mode=train_then_eval", *SMALL]
    command += [f"--dataset=folder:{images}", "--train_steps=2", f"--model_dir={tmp_path}"]
    command += ["--num_replicas=2", "--precision=mixed_bfloat16", "--eval_batch_size=6"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    # What the padded evaluation on two replicas says is what the exported networks do.
    models = [keras.saving.load_model(tmp_path / f"{n}.keras") for n in ("encoder", "classifier")]
    losses, right = [], 0
    for label, name in enumerate(("dark", "light")):
        for path in sorted((images / "test" / name).iterdir()):
            image = tf.io.decode_png(path.read_bytes()) / 255
            image = tf.clip_by_value(tf.image.resize(image, (16, 16), "bicubic"), 0, 1)[None]
            logits = models[1](models[0](image))[0]
            losses.append(-tf.nn.log_softmax(logits)[label].numpy())
            right += int(np.argmax(logits) == label)
    assert result(tmp_path)["loss"] == pytest.approx(np.mean(losses), rel=2e-2)  # bfloat16
    assert abs(result(tmp_path)["label_top_1_accuracy"] * 10 - right) <= 1


@pytest.mark.usefixtures("less_output")
def test_pretraining_with_linear_evaluation_beside_random_initialization(images, tmp_path, capsys):
    command = ["run", "--mode=train_then_eval", f"--dataset=folder:{images}", *SMALL]
    command += ["--train_mode=pretrain_linear_eval", "--train_steps=2", f"--model_dir={tmp_path}"]
    assert run.main(command) == 0
    stages = {name: tmp_path / name for name in ("pretrain", "linear_eval")}
    stages["random"] = tmp_path / "linear_eval_random_init"
    accuracies = {n: result(folder)["label_top_1_accuracy"] for n, folder in stages.items()}
    values = result(tmp_path)
    assert values["label_top_1_accuracy"] == accuracies["linear_eval"]
    assert values["random_init_top_1_accuracy"] == accuracies["random"]
    encoders = {
        name: keras.saving.load_model(folder / "encoder.keras").get_weights()
        for name, folder in stages.items()
    }
    same = zip(encoders["pretrain"], encoders["linear_eval"], strict=True)
    assert all(np.array_equal(a, b) for a, b in same)
    kernels = [next(w for w in weights if w.ndim == 4) for weights in encoders.values()]
    assert not np.array_equal(kernels[0], kernels[2])
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(table) == 5 and f"{accuracies['random']:.4f}" in table[-1]
    assert run.main(command) == 0, "finished stages are passed over"
    assert result(tmp_path) == pytest.approx(values)


def test_unlabelled_images_give_contrastive_metrics(images, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for i, path in enumerate(sorted(images.rglob("*.png"))[:16]):
        (flat / f"{i}.png").write_bytes(path.read_bytes())
    command = ["run", "--mode=train_then_eval", f"--dataset=folder:{flat}", *SMALL]
    assert run.main([*command, "--train_steps=2", f"--model_dir={tmp_path / 'run'}"]) == 0
    values = result(tmp_path / "run")
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
    assert not (tmp_path / "run" / "classifier.keras").exists()
    module = tf.saved_model.load(str(tmp_path / "run" / "hub" / "2"))
    assert "logits" not in module.signatures


# --- Bad input: one line, before any work, and nothing on disk changes ----------------------------


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
        (["--mode=eval", "--train_mode=pretrain"], "mode=eval"),
        (["--mode=eval"], "mode=eval"),
        (["--linear_eval.train_batch_size=10001"], "train_batch_size=10001"),
        (["--train_mode=linear_eval", "--checkpoint=nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_line(flags, says, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in fails([*SMALL, *flags] if "batch" not in flags[0] else flags, capsys)
    assert not list(tmp_path.iterdir()), "a refused run leaves nothing behind"


def test_folder_of_text_files(tmp_path, capsys):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("no image")
    command = [f"--dataset=folder:{tmp_path / 'texts'}", f"--model_dir={tmp_path / 'run'}"]
    assert str(tmp_path / "texts") in fails(command, capsys)
    assert not (tmp_path / "run").exists()


def test_another_network_in_the_same_folder_changes_nothing(pretrained, images, capsys):
    before = files(pretrained)
    command = ["--mode=train_then_eval", f"--dataset=folder:{images}", *SMALL]
    command += [f"--model_dir={pretrained}", "--width_multiplier=0.125"]
    message = fails(command, capsys)
    assert "width_multiplier=0.0625 there, 0.125 here" in message
    assert files(pretrained) == before


@pytest.mark.parametrize("text", ['{"gone": 1}', '{"mode": "tra'])
def test_a_folder_with_unreadable_options(text, images, tmp_path, capsys):
    (tmp_path / "config.json").write_text(text)
    command = [f"--dataset=folder:{images}", *SMALL, f"--model_dir={tmp_path}"]
    assert "config.json cannot be read" in fails(command, capsys)
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


def test_a_model_dir_that_cannot_be_made_is_one_line(images, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    command = [
        "run",
        f"--dataset=folder:{images}",
        *SMALL,
        f"--model_dir={tmp_path / 'file' / 'x'}",
    ]
    assert run.main(command) == 1
    error = capsys.readouterr().err
    assert "Error: " in error and "Traceback" not in error


def change_a_weight(prefix):
    reader = tf.train.load_checkpoint(prefix)
    values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    name = next(name for name, value in values.items() if "kernel" in name and value.ndim == 4)
    values[name] = values[name] + np.float32(1e-3)
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=list(values),
        shape_and_slices=[""] * len(values),
        tensors=list(values.values()),
    )


@pytest.mark.usefixtures("less_output")
def test_weights_that_have_changed_since_are_noticed(pretrained, images, capsys, tmp_path):
    source, model_dir = tmp_path / "source", tmp_path / "linear"
    shutil.copytree(pretrained, source)
    command = ["--train_mode=linear_eval", f"--dataset=folder:{images}", *SMALL]
    command += ["--train_steps=1", f"--checkpoint={source}", f"--model_dir={model_dir}"]
    assert run.main(["run", *command]) == 0
    change_a_weight(str(next((source / "checkpoints").glob("*.index")).with_suffix("")))
    before = files(model_dir)
    assert "other weights" in fails(command, capsys)
    assert files(model_dir) == before


def test_weights_of_another_network_change_nothing(pretrained, images, capsys, tmp_path):
    command = ["--train_mode=linear_eval", f"--dataset=folder:{images}", *SMALL]
    command += [f"--checkpoint={pretrained}", "--width_multiplier=0.125"]
    message = fails([*command, f"--model_dir={tmp_path / 'run'}"], capsys)
    assert "another network" in message
    assert not (tmp_path / "run").exists()


def test_labels_are_needed_where_they_are_used(images, capsys, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    source = next(images.rglob("*.png"))
    for i in range(20):
        (flat / f"{i}.png").write_bytes(source.read_bytes())
    command = ["--train_mode=linear_eval", f"--dataset=folder:{flat}", *SMALL]
    assert "needs labels" in fails([*command, f"--model_dir={tmp_path / 'run'}"], capsys)
