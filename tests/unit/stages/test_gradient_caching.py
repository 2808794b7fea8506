"""Gradient caching: the whole batch's loss with the activations of a part, against plain forms."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers.stages import compare, contrastive, random_views, tiny, without_batch_norm
from simclrv2_tf import batch_norm, objectives, optimizers


@pytest.mark.parametrize("micro_batch_size", [1, 2, 6])
@pytest.mark.parametrize("traced", [False, True])
def test_without_batch_norm_it_is_the_whole_batch(micro_batch_size, traced):
    data = random_views(6)
    data = (data[0], tf.where(tf.range(6) % 4 == 0, tf.constant(-1, tf.int64), data[1]))
    whole, parts = (
        contrastive(without_batch_norm()),
        contrastive(without_batch_norm(), micro_batch_size),
    )
    step = tf.function(parts.loss_and_gradients) if traced else parts.loss_and_gradients
    loss, gradients = step(data)
    expected_loss, expected = whole.loss_and_gradients(data)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    compare(gradients, expected, 1e-5)
    ours, theirs = parts.get_metrics_result(), whole.get_metrics_result()
    assert ours.keys() == theirs.keys() and len(ours) > 4
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def by_part():
    """Networks with batch norm, 12 pairs of views, and loss and gradients by micro-batches of 4."""
    networks, data = tiny(classifier_layer=1), random_views(12)
    stage = contrastive(networks, micro_batch_size=4)
    return networks, data, stage, *tf.function(stage.loss_and_gradients)(data)


def test_with_batch_norm_gradients_are_those_of_statistics_by_part(by_part):
    """One tape over all micro-batches, each normalized separately: what caching must equal."""
    networks, data, stage, loss, gradients = by_part
    (view1, view2), labels = data
    encoder, head, classifier = networks
    variables = stage.trainable_variables
    with tf.GradientTape() as tape:
        first, second, features = [], [], []
        with batch_norm.statistics_held_back():
            for begin in range(0, 12, 4):
                both = tf.concat([view1[begin : begin + 4], view2[begin : begin + 4]], 0)
                hiddens = head(encoder(both, training=True), training=True)
                first.append(hiddens[-1][:4])
                second.append(hiddens[-1][4:])
                features.append(tf.stop_gradient(hiddens[1]))
        contrast, _ = objectives.nt_xent(tf.concat(first, 0), tf.concat(second, 0), 0.5)
        logits = classifier(tf.concat(features, 0))
        by_part = [tf.concat([labels[b : b + 4]] * 2, 0) for b in range(0, 12, 4)]
        crossed = keras.losses.sparse_categorical_crossentropy(
            tf.concat(by_part, 0), logits, from_logits=True
        )
        expected_loss = contrast + tf.reduce_mean(crossed) + optimizers.l2_loss(variables)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    compare(gradients, tape.gradient(expected_loss, variables), 1e-4)

    # They differ from gradients with the whole batch's statistics, as documented.
    _, whole = contrastive(tiny(classifier_layer=1)).loss_and_gradients(data)
    kernels = [
        np.abs(ours - theirs).max() / np.abs(theirs).max()
        for ours, theirs in zip(gradients, whole, strict=True)
        if len(ours.shape) == 4 and np.abs(theirs).max() > 0
    ]
    assert max(kernels) > 0.01


def test_moving_statistics_move_once_and_by_the_whole_batch(by_part):
    (encoder, _, _), (views, _), *_ = by_part
    norms = [x for x in encoder._flatten_layers() if isinstance(x, batch_norm.BatchNorm)]
    first = next(x for x in norms if x.path.startswith("stem") or "stem" in x.path)
    before = keras.Model(encoder.input, first.input)(tf.concat(views, 0))
    mean, variance = (m.numpy() for m in tf.nn.moments(before, [0, 1, 2]))
    # What the first layer sees does not depend on the statistics of any other.
    np.testing.assert_allclose(first.moving_mean, 0.1 * mean, atol=1e-5)
    np.testing.assert_allclose(first.moving_variance, 0.9 + 0.1 * variance, rtol=1e-4)
    for norm in norms:
        assert np.any(norm.moving_mean.numpy() != 0)


def test_a_batch_that_it_does_not_divide_is_refused():
    stage = contrastive(without_batch_norm(), micro_batch_size=5)
    with pytest.raises(ValueError, match="must divide"):
        stage.train_step(random_views(12))
    with pytest.raises(ValueError, match="at least 1"):
        contrastive(without_batch_norm(), micro_batch_size=0)
