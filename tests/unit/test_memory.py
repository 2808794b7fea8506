"""The memory: a queue against a deque, a momentum network against its formula, and whole steps."""

import collections

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers.stages import random_views, remembering, small_encoder, tiny, without_batch_norm
from simclrv2_tf import memory, objectives, stages


def with_batch_norm():
    return tiny(classifier_layer=1)


@pytest.mark.parametrize("batches", [[4] * 5, [3] * 7, [5, 1, 7, 2, 8, 3], [20, 3, 9]])
@pytest.mark.parametrize("traced", [False, True])
def test_the_queue_is_a_deque(batches, traced):
    queue = memory.Queue(8, 2)
    push = tf.function(queue.push) if traced else queue.push
    expected, rng = collections.deque(maxlen=8), np.random.default_rng(0)
    for count in batches:
        assert np.sum(queue.valid()) == len(expected)
        keys = rng.normal(size=(count, 2)).astype(np.float32)
        push(tf.constant(keys))
        expected.extend(keys)
        filled, position = int(queue.filled.numpy()), int(queue.position.numpy())
        rows = np.asarray(queue.keys.value)
        oldest_first = rows[:filled] if filled < 8 else np.roll(rows, -position, axis=0)
        np.testing.assert_array_equal(oldest_first, np.stack(expected))
        np.testing.assert_array_equal(queue.valid(), np.arange(8) < len(expected))


def test_what_is_pushed_gets_no_gradient_and_is_kept_in_float32():
    queue, x = memory.Queue(4, 2), tf.Variable(tf.ones((3, 2), tf.bfloat16))
    with tf.GradientTape() as tape:
        queue.push(2 * x)
        total = tf.reduce_sum(queue.keys.value)
    assert tape.gradient(total, x) is None and total.dtype == tf.float32 and float(total) == 12


def test_sizes_out_of_range():
    with pytest.raises(ValueError, match="`size` must be at least 1. Received: size=0"):
        memory.Queue(0, 2)
    with pytest.raises(ValueError, match="`width`"):
        memory.Queue(2, 0)


def trained(*models):
    return [v.numpy() for model in models for v in model.trainable_variables]


def test_the_momentum_network_follows_by_its_formula():
    stage = remembering(with_batch_norm, 16, decay=0.75)
    average = trained(stage.momentum.encoder, stage.momentum.head)
    for seed in range(3):
        stage.train_step(random_views(6, seed))
        weights = trained(stage.encoder, stage.head)
        average = [0.75 * a + 0.25 * w for a, w in zip(average, weights, strict=True)]
    for ours, theirs in zip(
        trained(stage.momentum.encoder, stage.momentum.head), average, strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
    assert any(np.abs(a - w).max() > 1e-3 for a, w in zip(average, weights, strict=True))
    paths = {id(v) for v in stage.momentum.variables.values()}
    assert paths.isdisjoint(id(v) for v in stage.weights), "the stage takes them for its own"


def test_negatives_are_the_momentum_networks_past_outputs():
    """Each step by hand: the loss with the queue as it was, then both views' outputs in order."""
    stage, past = remembering(with_batch_norm, 20), collections.deque(maxlen=20)
    before = [keras.models.clone_model(m) for m in (stage.encoder, stage.head)]
    for seed in range(4):
        (view1, view2), labels = random_views(6, seed)
        images = tf.concat([view1, view2], 0)
        for copy, model in zip(before, (stage.encoder, stage.head), strict=True):
            copy.set_weights(model.get_weights())
        z1, z2 = tf.split(before[1](before[0](images, training=True), training=True)[-1], 2)
        negatives = {"negatives": np.stack(past)} if past else {}
        expected, metrics = objectives.nt_xent(z1, z2, 0.5, **negatives)
        follower = [stage.momentum.encoder, stage.momentum.head]
        saved = [m.get_weights() for m in follower]
        keys = stage.momentum(images).numpy()
        for model, values in zip(follower, saved, strict=True):
            model.set_weights(values)
        stage.reset_metrics()
        logs = stage.train_step(((view1, view2), labels))
        np.testing.assert_allclose(logs["contrast_loss"], expected, rtol=1e-4)
        np.testing.assert_allclose(logs["contrast_accuracy"], metrics["contrast_accuracy"])
        past.extend(keys)
        filled, position = (int(v.numpy()) for v in (stage.queue.filled, stage.queue.position))
        rows = np.roll(stage.queue.keys.numpy(), -position if filled == 20 else 0, axis=0)
        np.testing.assert_allclose(rows[:filled], np.stack(past), rtol=1e-4, atol=1e-5)


def test_evaluation_knows_no_memory():
    stage = remembering(with_batch_norm, 16)
    data = random_views(6)
    stage.train_step(data)
    before = stage.queue.keys.numpy()
    stage.reset_metrics()
    logs = stage.test_step(data)
    views, _ = data
    _, _, z1, z2 = stage.representations(data)
    np.testing.assert_allclose(logs["contrast_loss"], objectives.nt_xent(z1, z2, 0.5)[0], rtol=1e-5)
    np.testing.assert_array_equal(stage.queue.keys.numpy(), before)


def test_in_micro_batches_it_is_the_same():
    """Also in a graph."""

    def state_after(traced=False, **options):
        stage = remembering(without_batch_norm, 20, **options)
        step = tf.function(stage.train_step) if traced else stage.train_step
        for seed in range(2):  # 24 outputs: the queue of 20 wraps
            step(random_views(6, seed))
        held = stage.queue.variables, stage.momentum.variables
        return [*(v for variables in held for v in variables.values()), *stage.weights]

    whole = state_after()
    for traced in (False, True):
        parts = state_after(traced, micro_batch_size=2)
        for v, w in zip(whole, parts, strict=True):
            np.testing.assert_allclose(w.numpy(), v.numpy(), rtol=1e-4, atol=1e-6, err_msg=v.path)


@pytest.mark.parametrize("micro_batch_size", [None, 3])
def test_momentum_views_are_the_second_and_get_no_gradient(micro_batch_size):
    stage = remembering(
        without_batch_norm,
        0,
        momentum_views=True,
        micro_batch_size=micro_batch_size,
    )
    (view1, view2), labels = random_views(6)
    keys = stage.momentum(view2)
    variables = [*stage.encoder.trainable_variables, *stage.head.trainable_variables]
    with tf.GradientTape() as tape:
        z1 = stage.head(stage.encoder(view1))[-1]
        expected_loss, _ = objectives.nt_xent(z1, keys, 0.5)
    expected = tape.gradient(expected_loss, [v.value for v in variables])
    _, gradients = stage.loss_and_gradients(((view1, view2), labels))
    found = dict(zip((v.path for v in stage.trainable_variables), gradients, strict=True))
    np.testing.assert_allclose(stage.get_metrics_result()["contrast_loss"], expected_loss, 1e-5)
    for variable, gradient in zip(variables, expected, strict=True):
        np.testing.assert_allclose(found[variable.path], gradient, rtol=1e-4, atol=1e-6)
    assert stage.probe_accuracy.count.numpy() == 6  # the classifier sees only the first views


def test_what_does_not_fit_is_refused():
    encoder, head, _ = with_batch_norm()
    with pytest.raises(ValueError, match="`decay` must .* below 1. Received: decay=1"):
        memory.MomentumNetwork((encoder, head), with_batch_norm()[:2], 1)
    with pytest.raises(ValueError, match="architecture"):
        wider = small_encoder(1 / 8)
        memory.MomentumNetwork((encoder, head), (wider, head), 0.9)
    with pytest.raises(ValueError, match="need `momentum`"):
        stages.Pretrainer(encoder, head, objectives.NTXent(), queue=memory.Queue(2, 8))
