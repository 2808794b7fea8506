"""Small networks, data and stages that several tests train."""

import keras
import numpy as np
import tensorflow as tf

from simclrv2_tf import heads, memory, objectives, optimizers, resnet, stages
from simclrv2_tf.batch_norm import BatchNorm
from simclrv2_tf.training import loop


def small_encoder(width_multiplier=1 / 16, **options):
    """ResNet-10 of two blocks: more blocks test nothing more, and take long to trace."""
    return resnet.resnet(10, width_multiplier, image_size=8, blocks=(1, 1), **options)


def conv_encoder(width=8):
    """One convolution and batch norm: all that a stage needs of an encoder, quick to trace."""
    images = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(width, 3, 2, use_bias=False, name="stem_conv")(images)
    x = keras.layers.ReLU()(BatchNorm(name="stem_bn")(x))
    x = keras.layers.GlobalAveragePooling2D(dtype="float32")(x)
    return keras.Model(images, x)


def tiny(seed=0, num_classes=3, classifier_layer=0, encoder=small_encoder, **norm):
    keras.utils.set_random_seed(seed)
    encoder = encoder(**norm)
    head = heads.projection_head(encoder.output_shape[-1], 2, 8, **norm)
    width = head.outputs[classifier_layer].shape[-1]
    return encoder, head, heads.classifier(width, num_classes) if num_classes else None


def random_views(count=6, seed=0, num_classes=3):
    rng = np.random.default_rng(seed)
    pair = rng.random((2, count, 8, 8, 3), dtype=np.float32)
    labels = rng.integers(0, num_classes, count)
    return (tf.constant(pair[0]), tf.constant(pair[1])), tf.constant(labels)


def pretrainer(seed=0, optimizer=None, encoder=small_encoder, **kwargs):
    encoder, head, classifier = tiny(seed, encoder=encoder)
    stage = stages.Pretrainer(encoder, head, objectives.NTXent(0.5), classifier, **kwargs)
    optimizer = optimizer or optimizers.LARS(0.5, weight_decay=1e-4)
    stage.compile(optimizer, jit_compile=False)
    optimizer.build(stage.trainable_variables)
    return stage


def weights(*models):
    return {v.path: v.numpy() for model in models for v in model.weights}


def batches_from(count, start=0):
    """Seeded random data, a new batch of `count` images each step, as an endless data set."""

    def make(context):
        def one(index):
            shape = (2, count, 8, 8, 3)
            pair = tf.random.stateless_uniform(shape, tf.stack([index, 1]))
            labels = tf.random.stateless_uniform(
                [count], tf.stack([index, 2]), maxval=3, dtype=tf.int64
            )
            return (pair[0], pair[1]), labels

        return tf.data.Dataset.range(start, 10**6).map(one)

    return make


def without_batch_norm(seed=0):
    keras.utils.set_random_seed(seed)
    images = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(6, 3, activation="tanh", name="conv")(images)
    features = keras.layers.GlobalAveragePooling2D()(x)
    encoder = keras.Model(images, features)
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(7, activation="tanh", name="hidden")(inputs)
    head = keras.Model(inputs, [inputs, hidden, keras.layers.Dense(5, name="embedding")(hidden)])
    inputs = keras.Input((7,))
    return encoder, head, keras.Model(inputs, keras.layers.Dense(3, name="logits")(inputs))


def contrastive(networks, micro_batch_size=None, **kwargs):
    encoder, head, classifier = networks
    stage = stages.Pretrainer(
        encoder,
        head,
        objectives.NTXent(0.5),
        classifier,
        classifier_layer=1,
        micro_batch_size=micro_batch_size,
        penalty=optimizers.l2_loss,
        **kwargs,
    )
    stage.compile(optimizers.LARS(0.1), jit_compile=False)
    return stage


def compare(actual, expected, tolerance):
    """Compares all to `tolerance`, and each to ten times it: sums that cancel keep fewer digits."""
    assert len(actual) == len(expected) > 0
    actual, expected = ([np.asarray(x) for x in values] for values in (actual, expected))
    pairs = list(zip(actual, expected, strict=True))
    error = np.sqrt(sum(np.sum((ours - theirs) ** 2) for ours, theirs in pairs))
    assert error <= tolerance * np.sqrt(sum(np.sum(theirs**2) for _, theirs in pairs))
    for ours, theirs in pairs:
        scale = max(float(np.abs(theirs).max()), 1e-3)
        np.testing.assert_allclose(ours, theirs, atol=10 * tolerance * scale)


def remembering(networks, size, decay=0.5, momentum_views=False, **options):
    """A stage of pretraining with a momentum network, and a queue unless `size` is 0."""
    keras.utils.set_random_seed(1)
    encoder, head, classifier = networks()
    average = networks()
    momentum = memory.MomentumNetwork((encoder, head), average[:2], decay)
    momentum.begin()
    stage = stages.Pretrainer(
        encoder,
        head,
        options.pop("objective", objectives.NTXent(0.5)),
        classifier,
        classifier_layer=1,
        momentum=momentum,
        queue=memory.Queue(size, head.outputs[-1].shape[-1]) if size else None,
        momentum_views=momentum_views,
        **options,
    )
    stage.compile(optimizers.LARS(0.5), jit_compile=False)
    stage.optimizer.build(stage.trainable_variables)
    return stage


def train(stage, start, stop, epochs=2, callbacks=()):
    """Trains on `batches_from` batches of 6, from one step to another."""
    return loop.train(
        stage,
        tf.distribute.get_strategy(),
        batches_from(6, start),
        schedule=lambda step: 0.5,
        total_steps=stop,
        epochs=epochs,
        start_step=start,
        callbacks=callbacks,
        verbose=0,
    )
