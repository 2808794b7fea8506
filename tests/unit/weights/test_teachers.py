"""Teachers: a run's checkpoint, its files and a SavedModel are one function; errors say what."""

import dataclasses
import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclrv2_tf import resnet, weights
from simclrv2_tf.errors import UserError
from simclrv2_tf.export import export
from simclrv2_tf.network_options import NetworksOptions
from simclrv2_tf.networks import build_networks
from simclrv2_tf.weights import teachers

OPTIONS = NetworksOptions(resnet_depth=10, width_multiplier=1 / 16, ft_proj_selector=1)
RESNET = functools.partial(resnet.resnet, blocks=(1, 1))
IMAGES = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
HELD = {**dataclasses.asdict(OPTIONS), "image_size": 8, "seed": 3, "train_mode": "finetune"}


@pytest.fixture(scope="module")
def networks():
    return build_networks(OPTIONS, 3, image_size=8, seed=0, resnet=RESNET)


def write_run(folder, networks, **changes):
    """A run that was trained and not exported, with more options than its networks need."""
    held = {**HELD, "temperature": 0.1, **changes}
    variables = weights.named(networks.weights)
    weights.Checkpoints(str(folder / "checkpoints"), variables, keep=1).save(1)
    (folder / "config.json").write_text(json.dumps(held))
    return folder


def test_every_kind_is_the_same_function(networks, tmp_path):
    run = write_run(tmp_path / "run", networks)
    networks.image_classifier().save(tmp_path / "image_classifier.keras")
    models = (networks.encoder, networks.head, networks.classifier)
    export(str(tmp_path / "module"), *models, classifier_layer=1)
    expected = networks.image_classifier()(IMAGES)
    for path in (run, tmp_path / "image_classifier.keras", tmp_path / "module", tmp_path):
        teacher = teachers.load(str(path), RESNET)
        assert (teacher.num_classes, teacher.channels) == (3, 3), path
        # In a function of TensorFlow, as a training step calls it.
        logits = tf.function(lambda x, predict=teacher.predict: predict(x, training=False))(IMAGES)
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-6, err_msg=str(path))


NAMES = ("cat", "dog", "eel")


def test_class_names_come_with_every_kind_that_has_them(networks, tmp_path):
    run = write_run(tmp_path / "run", networks)
    models = (networks.encoder, networks.head, networks.classifier)
    networks.image_classifier().save(run / "image_classifier.keras")
    export(str(tmp_path / "module"), *models, classifier_layer=1)
    export(str(run / "hub" / "1"), *models, classifier_layer=1, class_names=NAMES)
    (tmp_path / "lone").mkdir()
    networks.image_classifier().save(tmp_path / "lone" / "model.keras")
    unnamed = (run, run / "image_classifier.keras", tmp_path / "module", tmp_path / "lone")
    for path in unnamed[:3]:
        assert teachers.load(str(path), RESNET).class_names == ()
    assert teachers.load(str(tmp_path / "lone" / "model.keras")).class_names == ()
    for folder in (run, tmp_path / "module"):
        (folder / "labels.txt").write_text("".join(f"{name}\n" for name in NAMES))
    for path in (*unnamed[:3], run / "hub" / "1"):
        assert teachers.load(str(path), RESNET).class_names == NAMES, path
    for folder in (run, tmp_path / "module"):
        (folder / "labels.txt").write_text("cat\ndog\n")
    for path in unnamed[:3]:  # names of something else
        assert teachers.load(str(path), RESNET).class_names == ()


def test_the_options_of_a_teachers_run(networks, tmp_path):
    run = write_run(tmp_path / "run", networks)
    for path in (run, run / "image_classifier.keras", run / "hub" / "7"):
        assert teachers.options_of(str(path))["train_mode"] == "finetune"
    for path in (tmp_path, tmp_path / "model.keras", run / "deep" / "7"):
        assert teachers.options_of(str(path)) == {}


def test_a_run_computes_in_the_current_policy(networks, tmp_path):
    run = write_run(tmp_path, networks)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = teachers.load(str(run), RESNET).predict
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("stem_conv").compute_dtype == "bfloat16"


def test_a_callable_saved_model_is_probed(tmp_path):
    class Module(tf.Module):
        @tf.function(
            input_signature=[tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((), bool)]
        )
        def __call__(self, images, training):
            return tf.reduce_mean(images, (1, 2))

    tf.saved_model.save(Module(), str(tmp_path))
    teacher = teachers.load(str(tmp_path))
    assert teacher.num_classes == 3
    np.testing.assert_allclose(teacher.predict(IMAGES, training=False), IMAGES.mean((1, 2)), 1e-5)


def test_what_is_no_teacher_is_said(networks, tmp_path):
    def fails(path):
        with pytest.raises(UserError) as raised:
            teachers.load(str(path), RESNET)
        text = str(raised.value)
        assert "\n" not in text and f"teacher={path}" in text
        return text

    run = write_run(tmp_path / "run", dataclasses.replace(networks, classifier=None))
    assert "with train_mode finetune, which has none" in fails(run)
    for held, reason in (
        ({**HELD, "resnet_depth": 11}, "resnet_depth"),
        ({name: value for name, value in HELD.items() if name != "seed"}, "'seed'"),
        ([HELD], "a list, not options"),
    ):
        (run / "config.json").write_text(json.dumps(held))
        text = fails(run)
        assert "whose options can be read" in text and reason in text
    (run / "config.json").write_text("{")
    assert "whose options can be read" in fails(run)
    stages = tmp_path / "stages"
    write_run(stages / "pretrain", networks)
    (stages / "config.json").write_text("{}")
    assert "label_fraction_0.1/fine_tuned in it" in fails(stages)
    (stages / "label_fraction_1" / "fine_tuned").mkdir(parents=True)
    (stages / "label_fraction_1" / "fine_tuned" / "image_classifier.keras").write_text("")
    assert f"such as {stages}/label_fraction_1/fine_tuned" in fails(stages)

    networks.head.save(tmp_path / "head.keras")
    assert "must map images (B, H, W, channels) to logits" in fails(tmp_path / "head.keras")
    (tmp_path / "broken.keras").write_text("no model")
    assert "must be readable" in fails(tmp_path / "broken.keras")
    export(str(tmp_path / "encoder"), networks.encoder)
    (tmp_path / "encoder.onnx").write_text("no model of TensorFlow")
    for other in ("encoder.onnx", "nothing", "run/checkpoints"):
        assert "must be the folder of a labelled run" in fails(tmp_path / other)
    tf.saved_model.save(tf.Module(), str(tmp_path / "module"))
    assert "must be a SavedModel with a signature `logits`" in fails(tmp_path / "module")


def test_options_that_a_run_lacks_take_their_defaults(networks, tmp_path):
    """As of runs from before the option."""
    run = write_run(tmp_path, networks)
    held = {name: value for name, value in HELD.items() if name != "proj_output_bn"}
    (run / "config.json").write_text(json.dumps(held))
    logits = teachers.load(str(run), RESNET).predict(IMAGES, training=False)
    np.testing.assert_allclose(logits, networks.image_classifier()(IMAGES), rtol=1e-4, atol=1e-6)
