"""Labelled training with unlabelled images from the command line: resumed, evaluated, exported."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import small
from helpers.command_line import SMALL, fails, keras_weights, result, same
from helpers.relabelled import tfds_copy
from simclrv2_tf import weights
from simclrv2_tf.experiments import plan, registry, semi_supervised
from simclrv2_tf.training import callbacks

MODES = plan.WITH_UNLABELLED
FLAGS = [*SMALL, "--mode=train_then_eval", "--label_fraction=0.5", "--train_steps=6"]
FLAGS += ["--confidence_threshold=0.5", "--ema_decay=0.9", "--export_formats=keras"]


class Stopped(Exception):
    pass


def train(images, folder, mode, *flags):
    command = [*FLAGS, f"--train_mode={mode}", f"--dataset=folder:{images}"]
    assert small.run([*command, f"--model_dir={folder}", *flags], exports=False) == 0


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    """A run of each mode, by its mode."""
    root = tmp_path_factory.mktemp("unlabelled")
    for mode in MODES:
        train(images, root / mode, mode)
    return root


@pytest.mark.parametrize("mode", MODES)
def test_the_moving_average_is_evaluated_and_exported(mode, trained, images):
    """Loading the run gives the average; the network that trains is another."""
    folder = trained / mode
    model = keras.saving.load_model(folder / "image_classifier.keras")
    losses, right = [], []
    for label, name in enumerate(("dark", "light")):
        for path in sorted((images / "test" / name).iterdir()):
            image = tf.io.decode_png(path.read_bytes()) / 255
            image = tf.clip_by_value(
                tf.image.resize(image, (16, 16), "bicubic", antialias=max(image.shape[:2]) > 32),
                0,
                1,
            )
            logits = model(image[None])[0]
            losses.append(-tf.nn.log_softmax(logits)[label].numpy())
            right.append(int(np.argmax(logits)) == label)
    assert result(folder)["label_top_1_accuracy"] == pytest.approx(np.mean(right))
    assert result(folder)["loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    encoder = keras.saving.load_model(folder / "encoder.keras")
    before = [w.copy() for w in encoder.get_weights()]
    prefix = tf.train.latest_checkpoint(str(folder / "checkpoints"))
    reader = tf.train.load_checkpoint(prefix)
    names = [n for n in reader.get_variable_to_shape_map() if "network.S" in n and "kernel" in n]
    assert names
    weights.load(str(folder), [encoder])
    assert same(before, encoder.get_weights())
    kernels = [reader.get_tensor(name) for name in names]
    for ours in (w for w in before if w.ndim == 4):
        assert not any(ours.shape == k.shape and np.array_equal(ours, k) for k in kernels)


@pytest.mark.parametrize("mode", MODES)
def test_a_resumed_run_ends_as_if_never_stopped(mode, trained, images, tmp_path, monkeypatch):
    save = callbacks.SaveCheckpoints.save

    def save_and_stop(self):
        save(self)
        if self._saved == 4:
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.SaveCheckpoints, "save", save_and_stop)
        with pytest.raises(Stopped):
            train(images, tmp_path / "run", mode, "--checkpoint_steps=2")
    train(images, tmp_path / "run", mode, "--checkpoint_steps=2")
    for name in ("encoder", "classifier"):
        ours, theirs = (keras_weights(f, name) for f in (tmp_path / "run", trained / mode))
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert result(tmp_path / "run")["loss"] == pytest.approx(
        result(trained / mode)["loss"], rel=1e-5
    )


@pytest.fixture(scope="module")
def relabelled(images, tmp_path_factory):
    """The images as unlabelled data: with their labels, and with the other ones."""
    root = tmp_path_factory.mktemp("relabelled")
    tfds_copy(images, root / "labels", lambda y: y)
    tfds_copy(images, root / "garbage", lambda y: 1 - y)
    return root


@pytest.mark.parametrize("mode", MODES)
def test_labels_of_the_unlabelled_images_are_never_read(mode, relabelled, images, tmp_path):
    """Labels replaced by garbage give the same networks, bit for bit."""
    for kind in ("labels", "garbage"):
        flags = ["--unlabelled_dataset=shades", f"--data_dir={relabelled / kind}"]
        train(images, tmp_path / kind, mode, *flags, "--train_steps=2")
    for name in ("encoder", "classifier"):
        assert same(*(keras_weights(tmp_path / kind, name) for kind in ("labels", "garbage")))
    assert len((tmp_path / "labels" / "labelled_examples.txt").read_text().splitlines()) == 12


@pytest.mark.parametrize("mode", MODES)
def test_it_starts_from_pretrained_weights_and_validates(mode, images, shared_runs, tmp_path):
    """At a learning rate of 0 the kernels stay as pretrained, in the average as well."""
    pretrained = shared_runs("study") / "pretrain"
    train(
        images,
        tmp_path,
        mode,
        f"--checkpoint={pretrained}",
        "--ft_proj_selector=1",
        "--learning_rate=1e-20",
        "--weight_decay=0",
        "--eval_epochs=1",
        "--label_fraction=1",
    )
    ours, theirs = (
        [w for w in keras_weights(folder, "encoder") if w.ndim == 4]
        for folder in (tmp_path, pretrained)
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert all(row["val_top_1_accuracy"] for row in rows)


def test_the_modes_are_those_of_the_stages():
    kinds = registry.stages().items()
    base = semi_supervised.SemiSupervisedTraining
    assert {mode for mode, kind in kinds if issubclass(kind, base)} == {*MODES}


def test_bad_input(images, flat, tmp_path, capsys):
    command = [*FLAGS, "--train_mode=fixmatch", f"--model_dir={tmp_path / 'run'}"]
    for flags, message in (
        ([f"--dataset=folder:{flat}"], "A label subset needs labels"),
        ([f"--dataset=folder:{images}", "--labelled_batch_size=13"], "`labelled_batch_size` must"),
        ([f"--dataset=folder:{images}", "--confidence_threshold=2"], "`confidence_threshold`"),
        ([f"--dataset=folder:{images}", "--unlabelled_weight=-1"], "`unlabelled_weight`"),
        ([f"--dataset=folder:{images}", "--class_weights=balanced"], "`class_weights` must"),
        ([f"--dataset=folder:{images}", "--teacher=a"], "`teacher` must be given in distill"),
    ):
        assert message in fails([*command, *flags], capsys)
    assert not (tmp_path / "run").exists()
