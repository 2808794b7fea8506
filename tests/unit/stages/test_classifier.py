"""Classifiers on an encoder: what is frozen stays, padding counts as nothing."""

import numpy as np
import pytest
import tensorflow as tf

from helpers.stages import random_views, tiny, weights
from simclrv2_tf import heads, optimizers, resnet, stages


def test_frozen_encoder_stays_bit_equal_with_its_statistics():
    encoder, head, classifier = tiny()
    resnet.freeze(encoder, 4)
    stage = stages.Classifier(encoder, classifier)
    optimizer = optimizers.make_optimizer(optimizers.OptimizerOptions(optimizer="momentum"), 0.1)
    stage.compile(optimizer, jit_compile=False)
    before, kernel = weights(encoder), classifier.get_weights()[0]
    (images, _), labels = random_views()
    stage.train_step((images, labels))
    for path, value in weights(encoder).items():
        np.testing.assert_array_equal(value, before[path], err_msg=path)
    assert np.any(classifier.get_weights()[0] != kernel)


def test_freezing_after_a_block_trains_what_follows():
    encoder = resnet.resnet(10, 1 / 16, image_size=8)
    resnet.freeze(encoder, 2)
    assert {v.path[:12] for v in encoder.trainable_variables} == {"block_group3", "block_group4"}
    resnet.freeze(encoder, -1)
    assert any(v.path.startswith("stem") for v in encoder.trainable_variables)
    with pytest.raises(ValueError, match="after_block=5"):
        resnet.freeze(encoder, 5)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_classifier_stage_trains_only_the_head_below_it(layer):
    encoder, head, classifier = tiny(classifier_layer=layer)
    stage = stages.Classifier(encoder, classifier, heads.up_to(head, layer) if layer else None)
    paths = {v.path for v in stage.trainable_variables}
    for k in (1, 2):
        assert (f"projection{k}_dense/kernel" in paths) == (k <= layer)


def test_evaluation_counts_padding_as_nothing():
    encoder, _, classifier = tiny()
    stage = stages.Classifier(encoder, classifier)
    (images, more), labels = random_views(6)
    logits = stage(images).numpy()
    losses = -tf.gather(tf.nn.log_softmax(logits), labels, batch_dims=1).numpy()
    right = np.argmax(logits, -1) == labels.numpy()
    stage.reset_metrics()
    stage.test_step((images[:4], labels[:4], tf.ones(4)))
    padded = tf.concat([images[4:], more[:2]], 0)
    padded_labels = tf.concat([labels[4:], tf.zeros(2, tf.int64)], 0)
    logs = stage.test_step((padded, padded_labels, tf.constant([1.0, 1.0, 0.0, 0.0])))
    np.testing.assert_allclose(logs["loss"], losses.mean(), rtol=1e-5)
    np.testing.assert_allclose(logs["top_1_accuracy"], right.mean(), rtol=1e-6)
    np.testing.assert_allclose(logs["top_5_accuracy"], 1.0)  # of 3 classes


def test_class_weights_are_factors_of_the_losses():
    """Gradients are of the weighted mean; accuracy and evaluation are not weighted."""
    encoder, _, classifier = tiny()
    factors = [0.5, 0.25, 3.0]
    stage = stages.Classifier(encoder, classifier, class_weights=factors)
    (images, _), labels = random_views(6)
    assert len(set(labels.numpy().tolist())) > 1
    with tf.GradientTape() as tape:
        loss = stage.training_loss((images, labels))
    found = tape.gradient(loss, classifier.trainable_variables)
    with tf.GradientTape() as tape:
        logs = tf.nn.log_softmax(stage(images, training=True))
        losses = -tf.gather(logs, labels, batch_dims=1)
        expected = sum(factors[k] * losses[i] for i, k in enumerate(labels.numpy())) / 6
    gradients = tape.gradient(expected, classifier.trainable_variables)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    for ours, theirs in zip(found, gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    plain = stages.Classifier(encoder, classifier)
    for each in (stage, plain):
        each.reset_metrics()
        each.test_step((images, labels))
    assert stage.get_metrics_result() == plain.get_metrics_result()
    with pytest.raises(ValueError, match="one weight for each of 3 classes. Received: 2"):
        stages.Classifier(encoder, classifier, class_weights=[1, 2])
