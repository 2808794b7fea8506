"""The encoder, heads and batch norm against the recorded reference, and their edge cases."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import oracle
from simclrv2_tf import heads, official, resnet
from simclrv2_tf.batch_norm import BatchNorm

NETWORKS = ["network_r18_cifar.npz", "network_r50.npz", "network_r50_sk.npz"]


def build(recorded):
    encoder = resnet.resnet(
        depth=int(recorded["depth"]),
        width_multiplier=float(recorded["width"]),
        sk_ratio=float(recorded["sk_ratio"]),
        se_ratio=float(recorded["se_ratio"]),
        image_size=int(recorded["image_size"]),
    )
    width = encoder.output_shape[-1]
    head = heads.projection_head(
        width, int(recorded["num_proj_layers"]), int(recorded["proj_out_dim"])
    )
    classifier = heads.classifier(width, int(recorded["num_classes"]))
    return encoder, head, classifier


def loaded(recorded):
    models = build(recorded)
    official.load_weights(oracle.numbered(recorded, "weights"), *models)
    return models


def assert_close(got, expected, relative, noise=0.0, name=""):
    error = np.max(np.abs(np.asarray(got) - expected))
    bound = max(relative * np.max(np.abs(expected)), 10 * noise)
    assert error <= bound, f"{name}: off by {error}, allowed {bound}"


@pytest.mark.parametrize("file", NETWORKS)
def test_inference_equals_the_reference(file):
    recorded = oracle.load(file)
    encoder, head, classifier = loaded(recorded)
    endpoints = resnet.features(encoder)(recorded["images_two_views"][..., :3], training=False)
    hiddens = head(endpoints["representation"], training=False)
    selected = hiddens[int(recorded["ft_proj_selector"])]
    for name, value in endpoints.items():
        assert_close(value, recorded["stem_output" if name == "stem" else name], 1e-4, name=name)
    assert_close(hiddens[-1], recorded["projection"], 1e-4, name="projection")
    assert_close(selected, recorded["finetune_head_input"], 1e-4, name="finetune_head_input")
    assert_close(classifier(selected), recorded["logits"], 1e-4, name="logits")


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
    encoder, head, classifier = loaded(recorded)
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

    # The recorded gradients and statistics travel through load_weights into models of the same
    # shape, so that the comparison needs no second mapping of names.
    models = (encoder, head, classifier)
    trainable = [v for model in models for v in model.trainable_variables]
    gradients = dict(zip([v.path for v in trainable], tape.gradient(loss, trainable), strict=True))
    statistics = {v.path: v.numpy() for model in models for v in model.non_trainable_variables}
    kinds = {"grads": gradients, "after_step": statistics}
    noises = {}
    for kind in kinds:
        for key in recorded:
            if key.startswith(f"noise/{kind}/"):
                noises[key.split("/", 3)[3]] = float(recorded[key])
    names = {**oracle.numbered(recorded, "grads"), **oracle.numbered(recorded, "after_step")}
    assert set(names) == set(oracle.numbered(recorded, "weights"))
    official.load_weights(names, *models)
    expected = {v.path: v.numpy() for model in models for v in model.weights}
    official.load_weights({k: np.full(v.shape, noises[k]) for k, v in names.items()}, *models)
    allowed = {v.path: float(np.max(v.numpy())) for model in models for v in model.weights}
    assert set(expected) == set(gradients) | set(statistics)
    for got in kinds.values():
        for path, value in got.items():
            assert_close(value, expected[path], 1e-3, allowed[path], path)


def count(variables):
    return sum(int(np.prod(v.shape)) for v in variables)


@pytest.mark.parametrize("index", range(17))
def test_parameter_counts_are_the_papers(index, monkeypatch):
    path = oracle.ORACLE / "parameter_counts.json"
    if not path.exists():
        pytest.skip("the reference's recordings are not beside the project")
    row = json.loads(path.read_text())[index]
    for initializer in (keras.initializers.VarianceScaling, keras.initializers.RandomNormal):
        # Up to 795 million numbers, whose values do not matter here.
        monkeypatch.setattr(
            initializer, "__call__", lambda self, shape, dtype=None: tf.zeros(shape, dtype)
        )
    encoder = resnet.resnet(row["depth"], row["width"], row["sk"])
    width = encoder.output_shape[-1]
    head = heads.projection_head(width)
    assert count(encoder.trainable_variables) == row["base_trainable"]
    assert count(encoder.variables) == row["base_all"]
    assert count(head.trainable_variables) == row["proj_trainable"]
    assert count(head.variables) == row["proj_all"]
    assert count(heads.classifier(width, 1000).variables) == row["sup"]
