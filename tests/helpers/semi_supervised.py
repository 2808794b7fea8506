"""Small stages of labelled training with unlabelled images."""

import keras
import numpy as np
import tensorflow as tf

from helpers.stages import conv_encoder
from simclrv2_tf import heads, moving_average, networks, optimizers, stages

KINDS = {
    "pseudo_label": stages.PseudoLabel,
    "mean_teacher": stages.MeanTeacher,
    "fixmatch": stages.FixMatch,
}


def made(seed=0, encoder=conv_encoder):
    """An encoder, a head and a classifier on the head's first layer."""
    keras.utils.set_random_seed(seed)
    encoder = encoder()
    head = heads.projection_head(encoder.output_shape[-1], 2, 8)
    classifier = heads.classifier(head.outputs[1].shape[-1], 3)
    classifier.weights[0].assign(60.0 * classifier.weights[0].value)  # some are confident, some not
    return networks.Networks(encoder, head, classifier, classifier_layer=1)


def stage(kind, decay=0.9, learning_rate=0.05, optimizer="momentum", **options):
    """The stage, and its averaged networks."""
    cls, ours, averaged = KINDS[kind], made(), made()
    average = moving_average.MovingAverage(
        list(ours.models.values()),
        list(averaged.models.values()),
        decay,
        statistics=cls.averages_statistics,
    )
    if kind == "mean_teacher":
        options["teacher"] = averaged.image_classifier()
    else:
        options.setdefault("threshold", 0.6)
    found = cls(ours.encoder, ours.classifier, average, ours.head_part, **options)
    optimizer = optimizers.make_optimizer(
        optimizers.OptimizerOptions(optimizer=optimizer), learning_rate
    )
    found.compile(optimizer, jit_compile=False)
    optimizer.build(found.trainable_variables)
    return found, averaged


def batch(kind, labelled=4, unlabelled=6, seed=0):
    """`((images, labels), views)`."""
    rng = np.random.default_rng(seed)

    def images(count):
        return tf.constant(rng.random((count, 8, 8, 3), dtype=np.float32))

    labels = tf.constant(rng.integers(0, 3, labelled))
    return (images(labelled), labels), tuple(images(unlabelled) for _ in KINDS[kind].views)
