"""Tests the stage that trains a student against formulas by hand; the teacher does not change."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers.distillation import (
    batch,
    by_loops,
    distiller,
    probabilities,
    student_networks,
    teacher_network,
)
from helpers.stages import small_encoder, weights
from simclrv2_tf import heads, stages
from simclrv2_tf import weights as checkpoints
from simclrv2_tf.export import export
from simclrv2_tf.training import loop


def mixed_batch(count=6, labelled=4):
    labels = tf.constant(np.random.default_rng(3).integers(0, 3, labelled))
    return batch(count), (batch(labelled, seed=1), labels)


def test_teacher_is_left_alone_and_is_no_part_of_the_stage(tmp_path):
    def penalty(variables):
        penalized.extend(variables)
        return tf.constant(0.0)

    penalized, teacher = [], teacher_network()
    stage = distiller(teacher, head=True, penalty=penalty)
    before, student_before = weights(teacher), weights(stage.encoder, stage.classifier)
    train = tf.function(stage.train_step)
    for step in range(3):
        train(batch(seed=step))
    for path, value in weights(teacher).items():
        np.testing.assert_array_equal(value, before[path], err_msg=path)
    after = weights(stage.encoder, stage.classifier)
    for path in ("stem_conv/kernel", "stem_bn/moving_mean", "classifier/kernel"):
        assert np.any(after[path] != student_before[path]), path

    student = {id(v) for m in (stage.encoder, stage.head, stage.classifier) for v in m.weights}
    theirs = {id(v) for v in teacher.weights}
    assert {id(v) for v in stage.weights} == student
    assert {id(v) for v in penalized} == {id(v) for v in stage.trainable_variables} <= student
    assert not theirs & {id(v) for v in [*stage.variables, *stage.optimizer.variables]}
    # The iteration, the learning rate, and one momentum for each weight.
    assert len(stage.optimizer.variables) == 2 + len(stage.trainable_variables)
    prefix = tf.train.Checkpoint(stage=stage).write(str(tmp_path / "stage"))
    assert not any("teacher" in name for name, _ in tf.train.list_variables(prefix))
    graph = tf.train.load_checkpoint(prefix).get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH")
    assert b"classifier" in graph and b"teacher_classifier" not in graph


def test_teacher_answers_in_inference_mode_and_stays_in_the_same_crop():
    asked = []

    def teacher(images, training=True):
        asked.append((images, training))
        return tf.zeros((tf.shape(images)[0], 3))

    stage, data = distiller(teacher, alpha=0.5), mixed_batch()
    stage.train_step(data)
    stage.test_step(batch(5))
    assert [training for _, training in asked] == [False, False]
    np.testing.assert_array_equal(asked[0][0], data[0])


@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("squared", [False, True])
def test_distillation_alone_is_the_papers_equation(squared, head):
    teacher, images = teacher_network(), batch()
    stage = distiller(teacher, temperature=3.0, squared_temperature=squared, head=head)
    hidden = stage.encoder(images, training=True)
    logits = stage.classifier(stage.head(hidden, training=True) if head else hidden)
    teacher_logits = teacher(images, training=False)
    expected, _ = by_loops(logits, teacher_logits, 3.0)
    logs = stage.train_step((images,))
    np.testing.assert_allclose(logs["distill_loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], expected * (9.0 if squared else 1.0), rtol=1e-5)
    agree = np.mean(np.argmax(logits, -1) == np.argmax(teacher_logits, -1))
    np.testing.assert_allclose(logs["teacher_agreement"], agree, rtol=1e-6)
    assert set(logs) == {"loss", "distill_loss", "teacher_agreement"}


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_labelled_images_join_in_as_in_equation_3(alpha):
    teacher = teacher_network()
    images, (labelled_images, labels) = data = mixed_batch(6, 4)
    stage = distiller(teacher, temperature=2.0, alpha=alpha)
    hidden = stage.encoder(tf.concat([images, labelled_images], 0), training=True)
    logits = stage.classifier(hidden).numpy()
    distilled, _ = by_loops(logits[:6], teacher(images, training=False), 2.0)
    rows = zip(logits[6:], labels.numpy(), strict=True)
    classified = -np.mean([probabilities(row, 1.0)[1][label] for row, label in rows])
    logs = stage.train_step(data)
    np.testing.assert_allclose(logs["distill_loss"], distilled, rtol=1e-5)
    np.testing.assert_allclose(logs["label_loss"], classified, rtol=1e-5)
    expected = (1 - alpha) * classified + alpha * distilled
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)
    accuracy = np.mean(np.argmax(logits[6:], -1) == labels.numpy())
    np.testing.assert_allclose(logs["top_1_accuracy"], accuracy, rtol=1e-6)


@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_update_is_that_of_the_formula_written_by_hand(alpha):
    teacher = teacher_network()
    images, (labelled_images, labels) = mixed_batch(6, 4)
    stage, same = distiller(teacher, alpha=alpha), distiller(teacher)
    target = tf.nn.softmax(teacher(images, training=False))
    both = images if alpha == 1 else tf.concat([images, labelled_images], 0)
    variables = same.trainable_variables
    with tf.GradientTape() as tape:
        logs = tf.nn.log_softmax(same.classifier(same.encoder(both, training=True)))
        loss = -alpha * tf.reduce_sum(target * logs[:6]) / 6.0
        for i in range(len(both) - 6):
            loss -= (1 - alpha) * logs[6 + i, int(labels[i])] / 4.0
    expected = tape.gradient(loss, variables)
    with tf.GradientTape() as tape:
        loss = stage.training_loss((images,) if alpha == 1 else (images, (labelled_images, labels)))
    gradients = tape.gradient(loss, stage.trainable_variables)
    for gradient, value, variable in zip(gradients, expected, variables, strict=True):
        scale = max(np.abs(value).max(), 1e-6)
        np.testing.assert_allclose(gradient, value, atol=1e-4 * scale, err_msg=variable.path)
    moving = weights(stage.encoder)["stem_bn/moving_mean"]
    np.testing.assert_allclose(moving, weights(same.encoder)["stem_bn/moving_mean"], rtol=1e-6)


def test_bfloat16_student_has_float32_losses():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        encoder, classifier, _ = student_networks()
    finally:
        keras.config.set_dtype_policy("float32")
    assert encoder.get_layer("stem_conv").compute_dtype == "bfloat16"
    stage = stages.Distiller(encoder, classifier, teacher_network(), temperature=0.1, alpha=0.5)
    loss = stage.training_loss(mixed_batch())
    assert loss.dtype == tf.float32 and np.isfinite(loss)
    full = distiller(temperature=0.1, alpha=0.5).training_loss(mixed_batch())
    np.testing.assert_allclose(loss, full, rtol=0.1)


def test_evaluation_counts_padding_and_missing_labels_as_nothing():
    teacher, images = teacher_network(), batch(6)
    labels = np.array([0, 2, -1, 1, 0, 1])
    stage = distiller(teacher, temperature=2.0, alpha=0.3)
    logits, teacher_logits = stage(images).numpy(), teacher(images).numpy()
    stage.reset_metrics()
    stage.test_step((images[:4], tf.constant(labels[:4]), tf.ones(4)))
    padded = tf.concat([images[4:], images[:2]], 0)
    logs = stage.test_step((padded, tf.constant([0, 1, 1, 1]), tf.constant([1.0, 1.0, 0.0, 0.0])))
    distilled, _ = by_loops(logits, teacher_logits, 2.0)
    rows = [(row, y) for row, y in zip(logits, labels, strict=True) if y >= 0]
    classified = -np.sum([probabilities(row, 1.0)[1][y] for row, y in rows])
    np.testing.assert_allclose(logs["distill_loss"], distilled, rtol=1e-5)
    np.testing.assert_allclose(logs["label_loss"], classified / 5, rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], 0.7 * classified / 6 + 0.3 * distilled, rtol=1e-5)
    agree = np.mean(np.argmax(logits, -1) == np.argmax(teacher_logits, -1))
    np.testing.assert_allclose(logs["teacher_agreement"], agree, rtol=1e-6)
    right = np.mean([np.argmax(row) == y for row, y in rows])
    np.testing.assert_allclose(logs["top_1_accuracy"], right, rtol=1e-6)
    stage.reset_metrics()
    np.testing.assert_allclose(stage.test_step(images)["distill_loss"], distilled, rtol=1e-5)


def test_labels_cannot_reach_a_student_that_only_distills():
    stage = distiller()
    with pytest.raises(ValueError, match="alpha=1.0, data="):
        stage.train_step((batch(6), tf.zeros(6, tf.int64)))
    with pytest.raises(ValueError, match="alpha=1.0, data="):
        stage.train_step(mixed_batch())
    # Evaluation data have labels; these are not looked at.
    logs = [
        stage.test_step((batch(6), labels)) for labels in (tf.zeros(6, tf.int64), tf.fill([6], 99))
    ]
    assert logs[0].keys() == {"loss", "distill_loss", "teacher_agreement"}
    np.testing.assert_allclose(logs[0]["loss"], logs[1]["loss"], rtol=1e-6)
    with pytest.raises(ValueError, match="alpha=0.5, data="):
        distiller(alpha=0.5).train_step(batch(6))


def test_a_loaded_saved_model_is_a_teacher(tmp_path):
    keras.utils.set_random_seed(4)
    encoder = small_encoder()
    classifier = heads.classifier(encoder.output_shape[-1], 3)
    export(str(tmp_path / "teacher"), encoder, None, classifier)
    module = tf.saved_model.load(str(tmp_path / "teacher"))
    before = [v.numpy() for v in module.variables]
    stage, images = distiller(module), batch()
    tf.function(stage.train_step)(images)
    for value, variable in zip(before, module.variables, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert not {id(v) for v in module.variables} & {id(v.value) for v in stage.variables}
    expected, _ = by_loops(stage(images), classifier(encoder(images)), 1.0)
    stage.reset_metrics()
    np.testing.assert_allclose(stage.test_step(images)["distill_loss"], expected, rtol=1e-4)


def test_student_comes_to_agree_with_its_teacher():
    teacher, images = teacher_network(), batch(16)
    stage = distiller(teacher, learning_rate=0.3)
    data = tf.data.Dataset.from_tensors(images).repeat(100)
    history = stage.fit(data, epochs=2, steps_per_epoch=50, verbose=0).history
    floor, _ = by_loops(teacher(images), teacher(images), 1.0)
    first, last = (value - floor for value in history["distill_loss"])
    assert 0 < last < 0.5 * first, history
    assert history["teacher_agreement"][-1] > history["teacher_agreement"][0], history


def test_bad_arguments_of_the_stage():
    encoder, classifier, _ = student_networks()
    for option in ({"alpha": -0.1}, {"alpha": 1.5}, {"alpha": float("nan")}, {"temperature": 0}):
        ((name, value),) = option.items()
        with pytest.raises(ValueError, match=f"`{name}` .* {name}={value}"):
            stages.Distiller(encoder, classifier, teacher_network(), **option)
    stage = stages.Distiller(encoder, classifier, teacher_network(num_classes=4))
    with pytest.raises(ValueError, match=r"\(6, 4\)"):
        stage.training_loss(batch(6))


def streams(count, labelled):
    """Seeded random unlabelled and labelled streams, each with its own batch size."""

    def images(index, seed, size):
        return tf.random.stateless_uniform((size, 8, 8, 3), tf.stack([index, seed]))

    def labels(index):
        seed = tf.stack([index, 3])
        return tf.random.stateless_uniform([labelled], seed, maxval=3, dtype=tf.int64)

    steps = tf.data.Dataset.range(100)
    unlabelled = steps.map(lambda i: images(i, 1, count))
    return unlabelled, steps.map(lambda i: (images(i, 2, labelled), labels(i)))


def test_stop_and_resume_equals_not_stopping(tmp_path):
    teacher = teacher_network()

    def make():
        stage = distiller(teacher, alpha=0.5)
        state = checkpoints.named(stage.weights, stage.optimizer)
        return stage, checkpoints.Checkpoints(str(tmp_path), state, keep=1)

    def train(stage, start, stop):
        loop.train(
            stage,
            tf.distribute.get_strategy(),
            lambda context: tf.data.Dataset.zip(streams(6, 4)).skip(start),
            schedule=lambda step: 0.05,
            total_steps=stop,
            epochs=1,
            start_step=start,
            verbose=0,
        )

    straight, _ = make()
    train(straight, 0, 4)
    first, store = make()
    train(first, 0, 2)
    store.save(2)
    second, store = make()
    assert store.restore()
    train(second, 2, 4)
    expected = weights(straight.encoder, straight.classifier)
    for path, value in weights(second.encoder, second.classifier).items():
        np.testing.assert_allclose(value, expected[path], rtol=1e-5, atol=1e-7, err_msg=path)
