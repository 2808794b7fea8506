"""Pretraining: labels stay out of the encoder, and the loss is the sum of its parts."""

import numpy as np
import pytest
import tensorflow as tf

from helpers.stages import batches_from, conv_encoder, pretrainer, random_views, tiny, weights
from simclrv2_tf import objectives, stages


def test_labels_never_reach_encoder_or_head():
    (view1, view2), labels = random_views()
    after = []
    for garbage in (labels, (labels + 1) % 3):
        stage = pretrainer()
        for _ in range(2):
            stage.train_step(((view1, view2), garbage))
        after.append(weights(stage.encoder, stage.head))
        probe = stage.classifier.get_weights()
    for path, value in after[0].items():
        np.testing.assert_array_equal(value, after[1][path], err_msg=path)
    assert any(np.any(value != 0) for value in probe)


def test_examples_without_a_label_are_nothing_to_the_probe():
    (view1, view2), labels = random_views()
    kernels = []
    for mixed, count in ((tf.constant([-1, 1, 2, -1, 0, -1], tf.int64), 6), (labels * 0 - 1, 6)):
        stage = pretrainer(encoder=conv_encoder)
        before = stage.classifier.get_weights()[0]
        logits = stage.classifier(stage.encoder(tf.concat([view1, view2], 0), training=True))
        doubled = np.concatenate([mixed, mixed])
        rows = np.flatnonzero(doubled >= 0)
        picked = tf.nn.log_softmax(logits).numpy()[rows, doubled[rows]]
        logs = stage.train_step(((view1, view2), mixed))
        np.testing.assert_allclose(logs["probe_loss"], -picked.sum() / (2 * count), rtol=1e-4)
        kernels.append(np.any(stage.classifier.get_weights()[0] != before))
    assert kernels == [True, False]


@pytest.mark.parametrize("layer", [0, 1, -1])
def test_probe_trains_on_the_selected_layer(layer):
    encoder, head, classifier = tiny(classifier_layer=layer)
    stage = stages.Pretrainer(encoder, head, objectives.NTXent(), classifier, layer)
    data = random_views()
    with tf.GradientTape() as tape:
        loss = stage.training_loss(data)
    gradients = tape.gradient(loss, classifier.trainable_variables)
    assert all(np.any(g != 0) for g in gradients)


def test_loss_is_the_objective_plus_the_probe_plus_the_penalty():
    data = random_views()
    (view1, view2), labels = data
    stage = pretrainer(penalty=lambda variables: tf.constant(7.0))
    hiddens = stage.head(stage.encoder(tf.concat([view1, view2], 0), training=True), training=True)
    logits = stage.classifier(hiddens[0])
    doubled = tf.concat([labels, labels], 0)
    picked = tf.gather(tf.nn.log_softmax(logits), doubled, batch_dims=1)
    expected = objectives.nt_xent(*tf.split(hiddens[-1], 2), 0.5)[0] - tf.reduce_mean(picked) + 7.0
    logs = stage.train_step(data)
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)
    accuracy = np.mean(np.argmax(logits, -1) == doubled.numpy())
    np.testing.assert_allclose(logs["probe_accuracy"], accuracy, rtol=1e-6)


def test_stages_work_with_keras_fit():
    stage = pretrainer(encoder=conv_encoder)
    data = batches_from(6)(None).take(4)
    history = stage.fit(data, epochs=1, verbose=0)
    assert np.isfinite(history.history["contrast_loss"][0])
