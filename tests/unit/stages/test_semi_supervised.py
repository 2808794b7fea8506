"""Labelled training with unlabelled images, against loops from the papers."""

import math

import numpy as np
import pytest
import tensorflow as tf

from helpers.semi_supervised import KINDS, batch, made, stage
from helpers.stages import conv_encoder, weights
from simclrv2_tf import moving_average, objectives
from simclrv2_tf.objectives import consistency

RAMPS = {
    "pseudo_label": lambda x: x,
    "mean_teacher": lambda x: math.exp(-5 * (1 - x) ** 2),
    "fixmatch": lambda x: 1.0,
}
WEIGHTS = {"pseudo_label": 3.0, "mean_teacher": 100.0, "fixmatch": 1.0}


def softmax(row):
    total = sum(math.exp(v - max(row)) for v in row)
    return [math.exp(v - max(row)) / total for v in row]


def by_loops(kind, logits, labels, others, teacher, threshold=0.6):
    """The labelled and the unlabelled loss from logits, one image after the other."""
    label_loss = sum(
        -math.log(softmax(row)[y]) for row, y in zip(logits, labels, strict=True)
    ) / len(labels)
    total = 0.0
    for i in range(len(others[0])):
        if kind == "mean_teacher":
            p, q = softmax(others[0][i]), softmax(teacher[i])
            total += sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) / len(p)
            continue
        q = softmax(others[0][i])
        p = softmax(others[-1][i])
        if max(q) >= threshold:
            total -= math.log(p[q.index(max(q))])
    return label_loss, total / len(others[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [0, 3, 10, 25])
def test_the_loss_is_that_of_loops(kind, step):
    found, averaged = stage(kind, ramp_steps=10)
    (images, labels), views = data = batch(kind)
    found.optimizer.iterations.assign(step)
    seen = views[:1] if kind == "mean_teacher" else views
    network = made()
    logits = network.classifier(
        network.head(network.encoder(tf.concat([images, *seen], 0), training=True), training=True)[
            1
        ]
    ).numpy()
    parts = np.split(logits, [4, *range(10, 4 + 6 * len(seen), 6)])
    teacher = made().image_classifier()(views[-1], training=True).numpy()
    labelled, unlabelled = by_loops(
        kind,
        parts[0].astype(float).tolist(),
        labels.numpy().tolist(),
        [part.astype(float).tolist() for part in parts[1:]],
        teacher.astype(float).tolist(),
    )
    assert unlabelled > 0
    loss = found.training_loss(data)
    expected = labelled + WEIGHTS[kind] * RAMPS[kind](min(step / 10, 1)) * unlabelled
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    logs = found.get_metrics_result()
    np.testing.assert_allclose(logs["label_loss"], labelled, rtol=1e-5)
    np.testing.assert_allclose(logs["unlabelled_loss"], unlabelled, rtol=1e-5)
    if kind != "mean_teacher":
        confident = np.mean([max(softmax(row)) >= 0.6 for row in parts[1].tolist()])
        assert 0 < confident < 1 and float(logs["confident"]) == pytest.approx(confident)


def test_targets_get_no_gradient():
    """By logits of their own, of which the targets' are others than those that learn."""
    rng = np.random.default_rng(0)
    targets, logits = (tf.Variable(rng.normal(size=(6, 3)).astype(np.float32)) for _ in "ab")
    with tf.GradientTape() as tape:
        losses, taken = objectives.pseudo_label_per_example(targets, logits, 0.6)
        loss = tf.reduce_mean(losses)
    of_targets, gradient = tape.gradient(loss, [targets, logits])
    assert of_targets is None and 0 < taken.numpy().sum() < 6
    expected = np.zeros((6, 3))
    for i in range(6):  # d CE / d logits = p - onehot, for the images that are taken
        q, p = softmax(targets.numpy()[i].tolist()), softmax(logits.numpy()[i].tolist())
        if max(q) >= 0.6:
            expected[i] = [(v - (k == q.index(max(q)))) / 6 for k, v in enumerate(p)]
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)


def test_the_teacher_gets_no_gradient():
    rng = np.random.default_rng(0)
    logits, teacher = (tf.Variable(2 * rng.normal(size=(5, 4)).astype(np.float32)) for _ in "ab")
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(objectives.mean_teacher_per_example(logits, teacher))
    gradient, of_teacher = tape.gradient(loss, [logits, teacher])
    assert of_teacher is None
    for i in range(5):
        p, q = softmax(logits.numpy()[i].tolist()), softmax(teacher.numpy()[i].tolist())
        for k in range(4):  # d sum_c (p_c - q_c)^2 / C / d z_k = 2 / C sum_c (p_c - q_c) dp_c
            slope = sum(2 / 4 * (p[c] - q[c]) * p[c] * ((c == k) - p[k]) for c in range(4))
            np.testing.assert_allclose(gradient[i, k], slope / 5, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_low_precision_is_computed_in_float32(dtype):
    rng = np.random.default_rng(0)
    first, second = (tf.cast(4 * rng.normal(size=(6, 3)), dtype) for _ in "ab")
    as_float = [tf.cast(x, tf.float32) for x in (first, second)]
    for function in (
        objectives.mean_teacher_per_example,
        lambda *pair: objectives.pseudo_label_per_example(*pair)[0],
    ):
        found = function(first, second)
        assert found.dtype == tf.float32
        np.testing.assert_array_equal(found, function(*as_float))


def test_bounds_of_the_threshold():
    logits = np.array([[3.0, 0.0], [0.0, 0.0]], np.float32)
    _, all_taken = objectives.pseudo_label_per_example(logits, logits, 0)
    _, none_taken = objectives.pseudo_label_per_example(logits, logits, 1)
    assert all_taken.numpy().tolist() == [1, 1] and none_taken.numpy().tolist() == [0, 0]
    for threshold in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="`threshold` must be from 0 to 1"):
            objectives.pseudo_label_per_example(logits, logits, threshold)
    for function in (objectives.pseudo_label_per_example, objectives.mean_teacher_per_example):
        with pytest.raises(ValueError, match="must have one shape"):
            function(logits, logits[:1])


def test_ramps():
    done = [-1.0, 0.0, 0.25, 1.0, 7.0]
    np.testing.assert_allclose(consistency.linear_ramp(done), [0, 0, 0.25, 1, 1])
    expected = [math.exp(-5), math.exp(-5), math.exp(-5 * 0.75**2), 1, 1]
    np.testing.assert_allclose(consistency.exponential_ramp(done), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_average_follows_the_network(kind):
    """Trainable weights by the rule; statistics too, unless the averaged network has its own."""
    found, averaged = stage(kind, decay=lambda step: 0.5 + 0.1 * tf.cast(step, tf.float32))
    expected = weights(*averaged.models.values())
    for step in range(3):
        found.train_step(batch(kind, seed=step))
        current = weights(found.encoder, found.head, found.classifier)
        for path, value in current.items():
            decay = 0.5 + 0.1 * step
            expected[path] = decay * expected[path] + (1 - decay) * value
    own = weights(*averaged.models.values())
    moved = {
        path
        for path in own
        if not np.array_equal(own[path], weights(*made().models.values())[path])
    }
    assert {"stem_conv/kernel", "classifier/kernel", "stem_bn/moving_mean"} <= moved
    for path, value in own.items():
        if path in expected and (kind != "mean_teacher" or "moving_" not in path):
            np.testing.assert_allclose(value, expected[path], rtol=1e-5, atol=1e-7, err_msg=path)
    if kind == "mean_teacher":
        path = "stem_bn/moving_mean"
        assert not np.allclose(own[path], expected[path])


@pytest.mark.parametrize("kind", KINDS)
def test_the_averaged_networks_are_no_part_of_the_stage(kind):
    found, averaged = stage(kind)
    theirs = {id(v) for v in averaged.weights}
    assert not theirs & {id(v) for v in [*found.variables, *found.optimizer.variables]}
    assert found.num_seen <= len(found.views)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_of_another_structure_are_refused(kind):
    found, _ = stage(kind)
    labelled, views = batch(kind)
    for data in (labelled, (labelled, views[0]), (labelled, (*views, views[0])), (views, labelled)):
        with pytest.raises(ValueError, match=r"`data` must be \(\(images, labels\)"):
            found.training_loss(data)
    images, _ = labelled
    with pytest.raises(tf.errors.InvalidArgumentError, match="must have a label"):
        found.training_loss(((images, tf.constant([0, 1, -1, 2])), views))


def test_bad_arguments():
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="`weight` must be finite and at least 0"):
            stage("fixmatch", weight=weight)
    with pytest.raises(ValueError, match="`ramp_steps`"):
        stage("fixmatch", ramp_steps=0)
    with pytest.raises(ValueError, match="architecture"):
        moving_average.MovingAverage([made().classifier], [made(encoder=wide).classifier], 0.9)


def wide():
    return conv_encoder(16)


@pytest.mark.parametrize("kind", KINDS)
def test_weight_0_is_supervised_training_beside_batch_norm(kind):
    """No gradient of the unlabelled images is left."""
    found, _ = stage(kind, weight=0.0, ramp_steps=1)
    data = batch(kind)
    _, gradients = found.loss_and_gradients(data)
    with tf.GradientTape() as tape:
        seen = tf.concat([data[0][0], *data[1][: found.num_seen]], 0)
        logits = found(seen, training=True)[:4]
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(data[0][1], logits))
    expected = tape.gradient(loss, found.trainable_variables)
    for ours, theirs in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_fit_and_evaluate_of_keras(kind):
    """By Keras's own loop; evaluation is of the network, in inference mode."""
    found, averaged = stage(kind)
    before = weights(*averaged.models.values())["stem_conv/kernel"]
    data = tf.data.Dataset.from_tensors(batch(kind)).repeat(3)
    history = found.fit(data, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert not np.array_equal(weights(*averaged.models.values())["stem_conv/kernel"], before)
    (images, labels), _ = batch(kind)
    some = tf.constant([-1, 0, 1, 2])  # the first is unlabelled
    logs = found.evaluate(tf.data.Dataset.from_tensors((images, some)), verbose=0, return_dict=True)
    logits = found(images, training=False)[1:]
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(some[1:], logits)
    np.testing.assert_allclose(logs["loss"], tf.reduce_mean(losses), rtol=1e-5)
    hits = tf.argmax(logits, -1, tf.int32) == some[1:]
    assert logs["top_1_accuracy"] == pytest.approx(np.mean(hits))
