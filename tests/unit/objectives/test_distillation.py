"""The distillation loss against loops from the paper."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers.distillation import by_loops, probabilities
from simclrv2_tf import objectives


def value_and_gradients(student, teacher, temperature):
    student, teacher = tf.convert_to_tensor(student), tf.convert_to_tensor(teacher)
    with tf.GradientTape() as tape:
        tape.watch([student, teacher])
        loss = objectives.distillation(student, teacher, temperature)
    return loss, *tape.gradient(loss, [student, teacher])


def random_logits(batch, classes, scale=1.0, seed=0):
    pair = np.random.default_rng(seed).normal(size=(2, batch, classes)) * scale
    return pair.astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "scale", "temperature"),
    [
        ((5, 4), 1.0, 1.0),
        ((5, 4), 3.0, 0.1),
        ((7, 10), 2.0, 4.0),
        ((4, 6), 1e4, 1.0),
        ((4, 6), 1e4, 0.1),
        ((3, 1), 5.0, 1.0),
        ((1, 5), 2.0, 0.5),
    ],
)
def test_loss_and_gradient_equal_the_papers_loops(shape, scale, temperature):
    student, teacher = random_logits(*shape, scale)
    expected, expected_gradient = by_loops(student, teacher, temperature)
    loss, gradient, teacher_gradient = value_and_gradients(student, teacher, temperature)
    assert loss.dtype == tf.float32 and loss.shape == ()
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=2e-4, atol=1e-6 / temperature)
    assert teacher_gradient is None
    plain = objectives.distillation(student, teacher, temperature)  # NumPy
    np.testing.assert_array_equal(plain, loss)
    per_example = objectives.distillation_per_example(student, teacher, temperature)
    for i in range(shape[0]):
        one, _ = by_loops(student[i : i + 1], teacher[i : i + 1], temperature)
        np.testing.assert_allclose(per_example[i], one, rtol=1e-5, atol=1e-7)


def test_low_precision_inputs_are_computed_in_float32():
    student, teacher = (tf.cast(x, tf.bfloat16) for x in random_logits(6, 5, 3.0))
    expected, expected_gradient = by_loops(
        tf.cast(student, tf.float32), tf.cast(teacher, tf.float32), 0.5
    )
    loss, gradient, _ = value_and_gradients(student, teacher, 0.5)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(tf.cast(gradient, tf.float32), expected_gradient, rtol=1e-2)


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_a_student_equal_to_its_teacher_has_the_entropy_and_no_gradient(scale):
    logits, _ = random_logits(6, 5, scale)
    entropy = 0.0
    for row in logits:
        p, log_p = probabilities(row, 0.7)
        entropy -= sum(a * b for a, b in zip(p, log_p, strict=True)) / len(logits)
    loss, gradient, _ = value_and_gradients(logits, logits, 0.7)
    np.testing.assert_allclose(loss, entropy, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(gradient, np.zeros_like(logits), atol=1e-7)


def test_bad_arguments_of_the_loss():
    student, teacher = random_logits(4, 3)
    for temperature in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"`temperature` .* temperature={temperature}"):
            objectives.distillation(student, teacher, temperature)
    for wrong in (teacher[:3], teacher[:, :2], teacher[0], teacher[None]):
        with pytest.raises(ValueError, match="`student_logits` and `teacher_logits`"):
            objectives.distillation(student, wrong)
    with pytest.raises(ValueError, match="`student_logits` and `teacher_logits`"):
        objectives.distillation(student[0], teacher[0])


def test_loss_compiles_with_xla():
    student = keras.Sequential([keras.Input((7,)), keras.layers.Dense(5)])
    inputs = tf.constant(np.random.default_rng(1).normal(size=(6, 7)), tf.float32)
    teacher = random_logits(6, 5, 2.0)[1]

    @tf.function(jit_compile=True)
    def step(inputs, teacher):
        with tf.GradientTape() as tape:
            loss = objectives.distillation(student(inputs), teacher, 0.5)
        return loss, tape.gradient(loss, student.trainable_variables)

    loss, gradients = step(inputs, teacher)
    expected, logits_gradient = by_loops(student(inputs), teacher, 0.5)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(gradients[0], inputs.numpy().T @ logits_gradient, rtol=1e-3)
