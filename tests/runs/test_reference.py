"""The networks of the reference in full: parameters, a training pass, a SavedModel."""

import json

import numpy as np
import pytest
import tensorflow as tf

from helpers import oracle
from helpers import recorded as recordings
from helpers.recorded import assert_close
from helpers.shapes_only import shapes_only
from simclrv2_tf import heads, official, resnet

NETWORKS = ["network_r18_cifar.npz", "network_r50.npz", "network_r50_sk.npz"]


def count(variables):
    return sum(int(np.prod(v.shape)) for v in variables)


@pytest.mark.parametrize("index", range(17))
def test_parameter_counts_are_the_papers(index):
    path = oracle.ORACLE / "parameter_counts.json"
    if not path.exists():
        pytest.skip("the reference's recordings are missing")
    row = json.loads(path.read_text())[index]
    with shapes_only():  # of up to 795 million numbers
        encoder = resnet.resnet(row["depth"], row["width"], row["sk"])
        width = encoder.output_shape[-1]
        head = heads.projection_head(width)
        classifier = heads.classifier(width, 1000)
    assert count(encoder.trainable_variables) == row["base_trainable"]
    assert count(encoder.variables) == row["base_all"]
    assert count(head.trainable_variables) == row["proj_trainable"]
    assert count(head.variables) == row["proj_all"]
    assert count(classifier.variables) == row["sup"]


def paper_nt_xent(z1, z2, temperature):
    """The reference's value (both directions, mean over N), in plain TensorFlow."""
    z = tf.math.l2_normalize(tf.concat([z1, z2], 0), -1)
    n = z1.shape[0]
    logits = tf.matmul(z, z, transpose_b=True) / temperature
    logits = tf.linalg.set_diag(logits, tf.fill([2 * n], -1e9))
    positives = tf.concat([tf.range(n, 2 * n), tf.range(n)], 0)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(positives, logits)
    return tf.reduce_sum(losses) / n


@pytest.mark.parametrize("file", NETWORKS)
def test_training_pass_equals_the_reference(file):
    recorded = oracle.load(file)
    encoder, head, classifier = recordings.loaded(recorded)
    images = recorded["images_two_views"]
    views = tf.concat([images[..., :3], images[..., 3:]], 0)
    labels = tf.concat([tf.range(3), tf.range(3)], 0)
    with tf.GradientTape() as tape:
        hiddens = head(encoder(views, training=True), training=True)
        logits = classifier(tf.stop_gradient(hiddens[int(recorded["ft_proj_selector"])]))
        contrastive = paper_nt_xent(*tf.split(hiddens[-1], 2), 0.1)
        supervised = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        loss = contrastive + supervised
    noise = lambda key: float(recorded[f"noise/{key}"])  # noqa: E731
    outputs = {
        "train_projection": hiddens[-1],
        "train_logits": logits,
        "contrastive_loss": contrastive,
        "supervised_loss": supervised,
    }
    for name, value in outputs.items():
        assert_close(value, recorded[name], 1e-3, noise(name), name)

    models = (encoder, head, classifier)
    trainable = [v for model in models for v in model.trainable_variables]
    gradients = dict(zip([v.path for v in trainable], tape.gradient(loss, trainable), strict=True))
    statistics = {v.path: v.numpy() for model in models for v in model.non_trainable_variables}
    expected, allowed = recordings.gradients_and_statistics(recorded, models)
    assert set(expected) == set(gradients) | set(statistics)
    for got in (gradients, statistics):
        for path, value in got.items():
            assert_close(value, expected[path], 1e-3, allowed[path], path)


class ModelOfKeras2(tf.Module):
    """Its variables are an attribute, which a checkpoint's keys have the name of."""

    variables = ()


def saved_model(folder, values, trainable):
    """A SavedModel as the exporter of the reference writes one.

    Args:
        values: Of all variables, by name; of each network those that train before the others.
        trainable: Which of them train.
    """
    variables = {n: tf.Variable(v, name=n) for n, v in values.items()}
    module = tf.Module()
    module.model = tf.Module()
    for attribute, scope in (("resnet_model", "resnet/"), ("_projection_head", "projection_head/")):
        part = ModelOfKeras2()
        part.variables = [v for n, v in variables.items() if n.startswith(scope)]
        setattr(module.model, attribute, part)
    module.trainable_variables_list = [variables[n] for n in trainable]
    tf.saved_model.save(module, str(folder))


def test_a_saved_model_is_read_by_name_and_not_run(tmp_path):
    """Written with the names and the keys of one of the reference's."""
    path = oracle.ORACLE / "tf2_saved_model_variables.json"
    if not path.exists():
        pytest.skip("the reference's recordings are missing")
    layout = json.loads(path.read_text())
    trainable = {
        name.removesuffix(":0"): shape for name, shape in layout["trainable_variables_list"]
    }
    recorded = oracle.load("network_r50_sk.npz")
    values = oracle.numbered(recorded, "weights")
    saved_model(tmp_path / "model", values, trainable)
    reader = tf.train.load_checkpoint(str(tmp_path / "model" / "variables" / "variables"))
    assert reader.get_variable_to_shape_map() == dict(layout["checkpoint_keys"])
    variables = official.Variables(str(tmp_path / "model"))
    assert variables.shapes == {name: value.shape for name, value in values.items()}
    assert trainable == {name: [*variables.shapes[name]] for name in trainable}
    models = official.infer(variables.shapes).build()
    official.load_checkpoint(str(tmp_path / "model"), **models)
    images = recorded["images_two_views"][..., :3]
    representation = models["encoder"](images)
    scale = np.abs(recorded["representation"]).max()
    np.testing.assert_allclose(representation, recorded["representation"], atol=1e-4 * scale)
