"""The distillation loss by loops from the paper, and small students and teachers."""

import keras
import numpy as np
import tensorflow as tf

from helpers.stages import conv_encoder
from simclrv2_tf import heads, optimizers, stages


def probabilities(logits, temperature):
    """P(y | x; t) of arXiv 2006.10029, equation 2, for one image: probabilities and their logs."""
    scaled = [float(v) / temperature for v in logits]
    largest = max(scaled)
    log_total = largest + np.log(sum(np.exp(v - largest) for v in scaled))
    logs = [v - log_total for v in scaled]
    return [np.exp(v) for v in logs], logs


def by_loops(student, teacher, temperature):
    """Equation 2 with its gradient for the student's logits, in float64."""
    student, teacher = np.asarray(student, np.float64), np.asarray(teacher, np.float64)
    loss, gradient = 0.0, np.zeros_like(student)
    for i in range(len(student)):
        target, _ = probabilities(teacher[i], temperature)
        predicted, log_predicted = probabilities(student[i], temperature)
        for y in range(student.shape[1]):
            loss -= target[y] * log_predicted[y] / len(student)
            # d log P_S(y) / d s_k = (1[y = k] - P_S(k)) / t
            for k in range(student.shape[1]):
                slope = (float(y == k) - predicted[k]) / temperature
                gradient[i, k] -= target[y] * slope / len(student)
    return loss, gradient


def teacher_network(num_classes=3, encoder=conv_encoder):
    """A teacher with batch norm and dropout, which would show that it is not in inference mode."""
    keras.utils.set_random_seed(7)
    encoder = encoder()
    dropped = keras.layers.Dropout(0.5)(encoder.output)
    classifier = keras.layers.Dense(num_classes, name="teacher_classifier", dtype="float32")
    return keras.Model(encoder.input, 10.0 * classifier(dropped))


def student_networks(seed=0, encoder=conv_encoder, head=False):
    keras.utils.set_random_seed(seed)
    encoder = encoder()
    width = encoder.output_shape[-1]
    part = heads.up_to(heads.projection_head(width, 2, 8), 1) if head else None
    return encoder, heads.classifier(width, 3), part


def distiller(teacher=None, learning_rate=0.05, encoder=conv_encoder, head=False, **kwargs):
    encoder, classifier, part = student_networks(0, encoder, head)
    stage = stages.Distiller(encoder, classifier, teacher or teacher_network(), part, **kwargs)
    optimizer = optimizers.make_optimizer(
        optimizers.OptimizerOptions(optimizer="momentum"), learning_rate
    )
    stage.compile(optimizer, jit_compile=False)
    optimizer.build(stage.trainable_variables)
    return stage


def batch(count=6, seed=0):
    return tf.constant(np.random.default_rng(seed).random((count, 8, 8, 3), dtype=np.float32))
