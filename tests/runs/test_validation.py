"""Validation while a stage trains: other images, the best weights, early stopping, resuming."""

import csv
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from etils import epath
from tensorflow.python.framework import config as tensorflow_config

from helpers import small
from helpers.command_line import SMALL, fails, keras_weights, result, same
from simclrv2_tf import datasets, weights
from simclrv2_tf.config import Config
from simclrv2_tf.experiments import results, validation
from simclrv2_tf.training import callbacks, history


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """2 classes, 20 training and 5 test images each, of noise around a shade."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 5)):
        for label, name in enumerate(("dark", "light")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 160, (20, 24, 3)) + 60 * label
                (folder / f"{i}.png").write_bytes(tf.io.encode_png(pixels.astype(np.uint8)).numpy())
    return root


def rows(folder):
    return list(csv.DictReader((folder / "history.csv").open()))


SUPERVISED = ["--mode=train_then_eval", "--train_mode=supervised", *SMALL, "--train_epochs=8"]
SUPERVISED += ["--eval_epochs=1", "--keep_checkpoint_max=9", "--patience=2", "--deterministic"]


@pytest.fixture(autouse=True)
def deterministic():
    """Undoes what `--deterministic` does to this process, for other tests."""
    yield
    tensorflow_config.disable_op_determinism()
    tf.random.set_seed(None)


def decree(patch, values):
    """Replaces the accuracy that is measured at the end of each epoch, and keeps the measured."""
    validate = callbacks.Validate.on_epoch_end

    def on_epoch_end(self, epoch, logs=None):
        validate(self, epoch, logs)
        logs["measured"] = logs["val_top_1_accuracy"]
        logs["val_top_1_accuracy"] = values[epoch]

    patch.setattr(callbacks.Validate, "on_epoch_end", on_epoch_end)


@pytest.fixture(scope="module")
def supervised(images, tmp_path_factory):
    """A run whose second epoch validates best, by decree, and which stops after two more of 8."""
    folder = tmp_path_factory.mktemp("supervised") / "run"
    with pytest.MonkeyPatch.context() as patch:
        decree(patch, [0.5, 0.75, 0.6, 0.7])
        command = [*SUPERVISED, f"--dataset=folder:{images}", f"--model_dir={folder}"]
        assert small.run(command, exports=False) == 0
    return folder


def test_the_curves_on_held_out_images_are_drawn_beside_those_of_training(supervised):
    """The figure's CSV file has the history's numbers."""
    folder = epath.Path(supervised)
    results.draw_learning_curves(SimpleNamespace(path=folder, history=folder / "history.csv"))
    points = list(csv.DictReader((supervised / "learning_curves.csv").open()))
    columns = {
        ("loss", "training", 1): "loss",
        ("loss", "held-out", 1): "val_loss",
        ("top-1 accuracy (%)", "training", 100): "top_1_accuracy",
        ("top-1 accuracy (%)", "held-out", 100): "val_top_1_accuracy",
    }
    for (quantity, images, scale), column in columns.items():
        drawn = [
            (float(r["x"]), float(r["y"]))
            for r in points
            if (r["y axis"], r["images"]) == (quantity, images)
        ]
        held = [(float(r["epoch"]), scale * float(r[column])) for r in rows(supervised)]
        assert drawn == held and len(held) == 4
    assert len(points) == 16
    assert (supervised / "learning_curves.svg").exists()


def checkpoint_weights(prefix):
    reader = tf.train.load_checkpoint(prefix)
    keys = sorted(k for k in reader.get_variable_to_shape_map() if "classifier" in k)
    return [reader.get_tensor(k) for k in keys if "optimizer" not in k]


def test_the_best_weights_are_exported_and_evaluated(supervised, images):
    """By epochs of 37 / 8 steps: validation leaves 18 images of each class."""
    found = rows(supervised)
    assert [row["val_top_1_accuracy"] for row in found] == ["0.5", "0.75", "0.6", "0.7"]
    assert all(float(row["measured"]) in np.arange(5) / 4 and row["val_loss"] for row in found)
    total, step = 36 * 8 // 8 + 1, result(supervised)["selected_step"]
    assert step == round(total * 2 / 8)
    end = result(supervised)["global_step"]
    assert end == result(supervised)["stopped_step"] == round(total * 4 / 8)
    assert f"{end} of {total} steps of 8 images" in (supervised / "README.md").read_text()
    best = weights.latest(str(supervised))
    assert best == str(supervised / "best" / f"ckpt-{step}")
    of_that_epoch = str(supervised / "checkpoints" / f"ckpt-{step}")
    for ours, theirs in zip(*map(checkpoint_weights, (best, of_that_epoch)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    stored = tf.train.load_checkpoint(best)
    (key,) = [k for k in stored.get_variable_to_shape_map() if "classifier" in k and "kernel" in k]
    kernel, _ = keras_weights(supervised, "classifier")
    np.testing.assert_array_equal(kernel, stored.get_tensor(key))
    accuracy = result(supervised)["label_top_1_accuracy"]
    command = [*SUPERVISED, f"--dataset=folder:{images}", f"--model_dir={supervised}"]
    assert small.run([*command, "--mode=eval"], exports=False) == 0
    assert result(supervised)["label_top_1_accuracy"] == accuracy


def test_a_run_that_is_resumed_selects_and_stops_the_same(
    supervised, images, tmp_path, monkeypatch, capsys
):
    """From the checkpoint of epoch one, after which the best and later rows were written."""
    resumed = shutil.copytree(supervised, tmp_path / "run")
    first = round(37 / 8)
    for path in (resumed / "checkpoints").iterdir():
        if path.name == "checkpoint" or int(path.name.split("-")[1].split(".")[0]) > first:
            path.unlink()
    (resumed / "checkpoints" / "checkpoint").write_text(f'model_checkpoint_path: "ckpt-{first}"\n')
    (resumed / "result.json").unlink()
    decree(monkeypatch, [0.5, 0.75, 0.6, 0.7])
    command = [*SUPERVISED, f"--dataset=folder:{images}", f"--model_dir={resumed}"]
    assert small.run(command, exports=False) == 0
    assert result(resumed) == result(supervised)
    for name in ("encoder", "classifier"):
        assert same(keras_weights(resumed, name), keras_weights(supervised, name))
    end = result(resumed)["stopped_step"]
    why = f"Stopped at step {end} of 37: val_top_1_accuracy has not improved for 2 evaluations"
    assert f"{why}, since 0.75 at step 9.\n" in capsys.readouterr().out
    record = json.loads((resumed / "run.json").read_text())
    assert record["sessions"][-1]["stopped"].startswith(why)

    # It does not train on: neither where it has finished, nor where it was killed before its end.
    assert small.run(command, exports=False) == 0
    assert "Finished before" in capsys.readouterr().out
    (resumed / "run.json").write_text(json.dumps({**record, "finished": None}))
    assert small.run(command, exports=False) == 0
    assert "Finished before" in capsys.readouterr().out
    (resumed / "result.json").unlink()
    assert small.run(command, exports=False) == 0
    said = capsys.readouterr().out
    assert why in said and "Epoch" not in said
    assert result(resumed) == result(supervised) and len(rows(resumed)) == 4


class Killed(BaseException):
    pass


def kill_after(owner, epoch, patch):
    """Ends a run once the callback `owner` has done its work at the end of an epoch."""
    work = owner.on_epoch_end

    def on_epoch_end(self, now, logs=None):
        work(self, now, logs)
        if now + 1 == epoch:
            raise Killed

    patch.setattr(owner, "on_epoch_end", on_epoch_end)


def test_a_run_that_is_killed_twice_ends_as_one_that_is_not(
    supervised, images, tmp_path, monkeypatch, capsys
):
    """Bit for bit, killed between what an epoch's end writes: the best weights, and the row.

    Epochs end at steps 5, 9, 14 and 18, and the run is resumed within one: at step 8 and, with a
    validation that was no better, at step 16.
    """
    killed = tmp_path / "run"
    command = [*SUPERVISED, f"--dataset=folder:{images}", f"--model_dir={killed}"]
    command.append("--checkpoint_steps=8")
    decree(monkeypatch, [0.5, 0.75, 0.6, 0.7])
    for owner, epoch, written in ((callbacks.KeepBest, 2, 1), (history.HistoryFile, 4, 4)):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            kill_after(owner, epoch, patch)
            small.run(command, exports=False)
        assert weights.latest(str(killed / "best")) == str(killed / "best" / "ckpt-9")
        assert len(rows(killed)) == written
    assert not (killed / "result.json").exists()
    assert small.run(command, exports=False) == 0
    said = capsys.readouterr().out
    assert "Resuming at step 8 of 37." in said and "Resuming at step 16 of 37." in said
    assert result(killed) == result(supervised)
    ours, theirs = (
        [{k: v for k, v in row.items() if k != "seconds"} for row in rows(folder)]
        for folder in (killed, supervised)
    )
    assert ours == theirs and len({row["val_loss"] for row in ours}) == 4
    for name in ("encoder", "classifier"):
        assert same(keras_weights(killed, name), keras_weights(supervised, name))
    # Also what follows the selected weights: the last ones, and the optimizer's momentum.
    ours, theirs = (
        tf.train.load_checkpoint(str(folder / "checkpoints" / "ckpt-18"))
        for folder in (killed, supervised)
    )
    keys = [k for k in ours.get_variable_to_shape_map() if k.startswith("variables/")]
    assert any("momentum" in key for key in keys)
    for key in keys:
        np.testing.assert_array_equal(ours.get_tensor(key), theirs.get_tensor(key), key)


def test_pretraining_is_validated_by_neighbours(images, tmp_path, capsys):
    command = ["--mode=train", *SMALL, f"--dataset=folder:{images}", "--train_epochs=2"]
    assert small.run([*command, "--eval_epochs=2", f"--model_dir={tmp_path}"], exports=False) == 0
    assert "Holding out 4 of 40 training images for validation" in capsys.readouterr().out
    first, last = rows(tmp_path)
    assert first["knn_top_1_accuracy"] == "" and float(last["knn_top_1_accuracy"]) in (
        0, 0.25, 0.5, 0.75, 1,
    )  # fmt: skip
    assert not (tmp_path / "best").exists()
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["eval_epochs"] == 2


def test_validation_images_are_neither_trained_on_nor_reported(images, tmp_path, capsys):
    command = [*SUPERVISED, f"--dataset=folder:{images}", f"--model_dir={tmp_path / 'run'}"]
    line = fails([*command, "--validation_split=train[90%:]"], capsys)
    assert "4 are in train" in line and "`validation_split` must have no image of `train" in line
    both = ["--validation_split=test[:50%]", "--train_split=train"]
    assert "must have no image of `eval_split`" in fails([*command, *both], capsys)
    assert not (tmp_path / "run").exists()


def test_with_few_labels_the_last_weights_are_taken(images, capsys):
    main = datasets.open_dataset(f"folder:{images}")
    split, data = main.split("train"), SimpleNamespace(main=main)
    ids, labels = split.labels()
    nine = [name for label in (0, 1) for name in ids[labels == label][:9]]
    config = Config.from_argv(["run", *SUPERVISED, f"--dataset=folder:{images}"])
    run = SimpleNamespace(config=config, eval_split=main.split("test"), data=data, labelled=True)
    few = split.subset(nine)
    assert validation.parts(run, few) == (few, None)
    assert "a class has only 9 training images" in capsys.readouterr().out
    train, held = validation.parts(run, split)
    assert (train.num_examples, held.num_examples) == (36, 4)
    assert not set(train.labels()[0]) & set(held.labels()[0])
    assert held.labels()[1].tolist().count(0) == 2


def test_distillation_is_validated_on_a_split_with_labels(images, capsys):
    main = datasets.open_dataset(f"folder:{images}")
    split, data = main.split("train").unlabelled(), SimpleNamespace(main=main)
    config = Config.from_argv(["run", *SUPERVISED, f"--dataset=folder:{images}"])
    run = SimpleNamespace(config=config, eval_split=main.split("test"), data=data, labelled=True)
    assert validation.parts(run, split) == (split, None)
    assert "its training images have no labels. Use --validation_split" in capsys.readouterr().out


def test_the_split_validation_of_a_data_set_is_its_own(images, tmp_path, capsys):
    """Where it is not reported; distillation needs no flag for it then."""
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    shutil.copytree(images / "test", folder / "val")
    for file in (folder / "val").rglob("*.png"):
        file.rename(file.with_name(f"v{file.name}"))
    common = [*SMALL, "--mode=train_then_eval", f"--dataset=folder:{folder}", "--train_steps=4"]
    command = [*common, "--train_mode=supervised", "--eval_epochs=1"]
    assert small.run([*command, f"--model_dir={tmp_path / 'a'}"], exports=True) == 0
    said = capsys.readouterr().out
    assert said.count("Validation while training takes the split validation;") == 1
    held = rows(tmp_path / "a")
    assert held and all(row["val_top_1_accuracy"] for row in held)
    record = json.loads((tmp_path / "a" / "result.json").read_text())
    assert record["images"] == 10
    student = [*common, "--train_mode=distill", f"--teacher={tmp_path / 'a'}", "--eval_epochs=1"]
    assert small.run([*student, f"--model_dir={tmp_path / 'b'}"], exports=False) == 0
    assert "Validation while training takes the split validation;" in capsys.readouterr().out
    (last,) = rows(tmp_path / "b")[-1:]
    assert last["val_top_1_accuracy"]
    # Reported, it is no longer for validation: a tenth of the training images is.
    reported = [*command, "--eval_split=validation", f"--model_dir={tmp_path / 'c'}"]
    assert small.run(reported, exports=False) == 0
    said = capsys.readouterr().out
    assert "training images for validation, a tenth" in said
    assert "takes the split validation" not in said


@pytest.mark.parametrize(
    ("flags", "own"),
    [
        (["--label_fraction=0.5"], False),
        (["--labels_per_class=10", "--select=last", "--patience=0"], True),
        (["--labels_per_class=10", "--select=last", "--patience=2"], False),
        (["--label_fraction=1"], True),
        ([], True),
    ],
)
def test_a_label_subset_is_not_validated_by_other_labels_where_they_choose(flags, own):
    config = Config.from_argv(["run", *SUPERVISED, "--eval_epochs=1", *flags])
    assert validation.takes_own_split(config, labelled=True) == own
    assert validation.takes_own_split(config, labelled=False)


def test_several_validations_an_epoch_change_no_weight(images, tmp_path):
    """Each is a row of the history, and the rows are of the same steps."""
    command = ["--mode=train_then_eval", "--train_mode=supervised", *SMALL, "--train_epochs=2"]
    command += [f"--dataset=folder:{images}", "--select=last", "--export_formats=keras"]
    for name, every in (("whole", "1"), ("half", "0.5"), ("step", "0.01")):
        folder = tmp_path / name
        flags = [f"--eval_epochs={every}", f"--model_dir={folder}"]
        assert small.run([*command, *flags], exports=False) == 0
    whole, half, step = (rows(tmp_path / name) for name in ("whole", "half", "step"))
    # No more validations than steps, of which the reference's rule makes 10: 2 * 36 // 8 + 1.
    assert [len(found) for found in (whole, half, step)] == [2, 4, 10]
    assert all(row["val_top_1_accuracy"] for found in (whole, half, step) for row in found)
    for found in (half, step):
        assert found[-1]["val_loss"] == whole[-1]["val_loss"]
        assert found[-1]["learning_rate"] == whole[-1]["learning_rate"]
    for name in ("encoder", "classifier"):
        ours = keras_weights(tmp_path / "whole", name)
        assert same(ours, keras_weights(tmp_path / "half", name))
        assert same(ours, keras_weights(tmp_path / "step", name))


@pytest.mark.parametrize("every", ["1.5", "-1", "2.25", "nan"])
def test_validations_are_at_whole_epochs_or_within_one(every, images, tmp_path, capsys):
    command = [*SUPERVISED, f"--dataset=folder:{images}", f"--model_dir={tmp_path / 'run'}"]
    assert "`eval_epochs`" in fails([*command, f"--eval_epochs={every}"], capsys)
