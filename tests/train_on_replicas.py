"""A program: five steps on a number of replicas, everything they make written to a file.

`python train_on_replicas.py FILE COUNT [OTHER]`. Leaves a checkpoint in FILE.checkpoint, and goes
on from that of OTHER, which another number of replicas left. In a process of its own, since
strategies of different sizes in one process get into each other's way.
"""

import sys

import keras
import numpy as np
import tensorflow as tf

import test_micro_batch
import test_stages
from simclrv2_tf import checkpoints, distribute, loop, resnet

BATCH = 8


def networks(kind):
    if kind == "no_bn":
        return test_micro_batch.without_batch_norm()
    made = test_stages.tiny(classifier_layer=1, global_batch_norm=kind == "global_bn")
    for v in made[0].weights:
        if v.path.endswith("bn2/gamma"):  # small: batch norm over few views magnifies rounding
            v.assign(0.1 * np.ones(v.shape))
    return made


def batches(count, noise, begin=0):
    @tf.autograph.experimental.do_not_convert
    def perturbed(views, labels):
        return tuple(v * (1 + noise * (2 * v - 1)) for v in views), labels

    def make(context):
        data = (
            test_stages.batches_from(BATCH, begin)(context).map(perturbed).rebatch(BATCH // count)
        )
        options = tf.data.Options()
        options.autotune.enabled = False  # its threads take seconds to end
        return data.with_options(options)

    return make


def measure(strategy, kind, noise=0.0):
    """By name: the first step's loss and gradients; weights and metrics after five steps."""
    with strategy.scope():
        stage = test_micro_batch.make(networks(kind))
        stage.optimizer.build(stage.trainable_variables)
    make = batches(strategy.num_replicas_in_sync, noise)
    iterator = iter(strategy.distribute_datasets_from_function(make))

    @tf.function(autograph=False)
    def first(batch):
        losses, gradients = strategy.run(stage.loss_and_gradients, args=(batch,))
        total = [strategy.reduce("SUM", g, axis=None) for g in gradients]
        return strategy.reduce("MEAN", losses, axis=None), total

    loss, gradients = first(next(iterator))
    found = {"loss": loss}
    found |= {
        f"gradient {v.path}": g for v, g in zip(stage.trainable_variables, gradients, strict=True)
    }
    options = {"schedule": lambda step: 0.1, "total_steps": 5, "epochs": 1, "verbose": 0}
    loop.train(stage, strategy, make, **options)
    models = (stage.encoder, stage.head, stage.classifier)
    found |= {f"weight {v.path}": v.value for model in models for v in model.weights}
    found |= {f"metric {name}": value for name, value in stage.get_metrics_result().items()}
    return {name: np.asarray(value) for name, value in found.items()}


def train_in_two_sittings(strategy, own, other):
    """Three steps, kept in folder `own`; then two more after the three kept in `other`, if any."""
    for folder, begin, end in ((own, 0, 3), (other, 3, 5)):
        if folder is None:
            return {}
        with strategy.scope():
            stage = test_micro_batch.make(networks("no_bn"))
            stage.optimizer.build(stage.trainable_variables)
        models = (stage.encoder, stage.head, stage.classifier)
        weights = [v for model in models for v in model.weights]
        store = checkpoints.Checkpoints(folder, checkpoints.named(weights, stage.optimizer), keep=1)
        assert store.restore() == (begin > 0)
        make = batches(strategy.num_replicas_in_sync, 0.0, begin)
        options = {"schedule": lambda step: 0.1, "total_steps": end, "epochs": 1, "verbose": 0}
        loop.train(stage, strategy, make, start_step=begin, **options)
        if folder == own:
            store.save(end)
    return {f"weight {v.path}": np.asarray(v.value) for v in weights}


def main(file, count, other=None):
    strategy = distribute.make_strategy("mirrored" if count > 1 else "default", count)
    resnet._BLOCKS[10] = (1, 1, 0, 0)  # two blocks say as much as four
    # At a ReLU's kink the last digit of an input decides on the whole of a gradient.
    keras.layers.ReLU = lambda name: keras.layers.Activation("softplus", name=name)
    kinds = ["no_bn", "global_bn"] + (["local_bn"] if count < 4 else [])
    results = {kind: measure(strategy, kind) for kind in kinds}
    if count == 1:
        results["perturbed"] = measure(strategy, "global_bn", noise=1e-7)
    results["resumed"] = train_in_two_sittings(strategy, f"{file}.checkpoint", other)
    flat = {f"{kind}|{n}": v for kind, values in results.items() for n, v in values.items()}
    np.savez(file, **{name.replace("/", "~"): value for name, value in flat.items()})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
