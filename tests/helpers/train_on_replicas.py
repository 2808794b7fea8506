"""A program: five steps on a number of replicas, with all results written to a file.

`python -m helpers.train_on_replicas FILE COUNT [OTHER]`. Leaves a checkpoint in FILE.checkpoint,
and resumes OTHER's, which another number of replicas wrote. It is a separate program because two
strategies in one process interfere.
"""

import sys
import threading

import keras
import numpy as np
import tensorflow as tf

from helpers import distillation, semi_supervised, stages
from simclrv2_tf import distribute, environment, objectives
from simclrv2_tf import weights as checkpoints

BATCH = 8


def make_stage(kind):
    """Returns the stage, and by name its state besides weights, or what it must not change."""
    if kind == "distill":
        teacher = distillation.teacher_network()
        stage = distillation.distiller(teacher, alpha=0.3, head=True, temperature=2.0)
        return stage, {f"teacher {v.path}": v for v in teacher.weights}
    if kind in semi_supervised.KINDS:
        stage, averaged = semi_supervised.stage(kind, ramp_steps=4)
        return stage, {f"average {v.path}": v for v in averaged.weights}
    if kind not in ("memory", "tico"):
        size = 2 if kind == "micro_batches" else None
        return stages.contrastive(networks(kind), size), {}
    objective = objectives.NTXent(0.5) if kind == "memory" else objectives.TiCo(5)
    stage = stages.remembering(
        stages.without_batch_norm,
        20 if kind == "memory" else 0,  # which 16 embeddings a step do not divide
        momentum_views=kind == "tico",
        objective=objective,
    )
    queue = stage.queue.variables if stage.queue else {}
    return stage, {**stage.momentum.variables, **queue, **objective.variables}


def networks(kind):
    if kind in ("no_bn", "micro_batches"):
        return stages.without_batch_norm()
    made = stages.tiny(classifier_layer=1, global_batch_norm=kind == "global_bn")
    for v in made[0].weights:
        if v.path.endswith("bn2/gamma"):  # small: batch norm over few views magnifies rounding
            v.assign(0.1 * np.ones(v.shape))
    return made


def batches(noise):
    """Five of two images and a label; `noise` changes each pixel by a share of that."""
    found = stages.batches_from(BATCH)(tf.distribute.InputContext()).take(5)
    for views, labels in found.as_numpy_iterator():
        yield (*(v * (1 + np.float32(noise) * (2 * v - 1)) for v in views), labels)


def measure(strategy, kind, noise=0.0, own=None, other=None):
    """By name: the first step's loss and gradients; weights and metrics after five steps.

    After three it leaves a checkpoint in folder `own`. With a folder `other`, also the weights two
    steps after the checkpoint there.
    """
    with strategy.scope():
        stage, state = make_stage(kind)
        stage.optimizer.build(stage.trainable_variables)
    weights = [v for m in (stage.encoder, stage.head, stage.classifier) for v in m.weights]
    loss_and_gradients, made = stage.loss_and_gradients, {}

    def keep(batch):
        made[threading.get_ident()] = result = loss_and_gradients(batch)
        return result

    # One whole step, traced once, and the tensors inside it.
    stage.loss_and_gradients = keep

    def train(image1, image2, labels):
        if kind == "distill":
            stage.train_step((image1, (image2, labels)))
        elif kind in semi_supervised.KINDS:
            views = (image1, tf.reverse(image1, [2]))[: len(stage.views)]
            stage.train_step(((image2, labels), views))
        else:
            stage.train_step(((image1, image2), labels))
        return made[threading.get_ident()]

    # Not from a data set of the strategy's: one takes seconds to end, and the loop has own tests.
    @tf.function(autograph=False)
    def step(*batch):
        losses, gradients = strategy.run(train, args=batch)
        total = [strategy.reduce("SUM", g, axis=None) for g in gradients]
        return strategy.reduce("MEAN", losses, axis=None), total

    def run(begin, end):
        count, found = strategy.num_replicas_in_sync, []
        for batch in list(batches(noise))[begin:end]:
            if kind in ("distill", *semi_supervised.KINDS):  # half as many labelled images
                batch = (batch[0], *(array[: BATCH // 2] for array in batch[1:]))
            parts = [np.split(array, count) for array in batch]
            found.append(
                step(
                    *(
                        strategy.experimental_distribute_values_from_function(
                            lambda context, part=part: tf.constant(
                                part[context.replica_id_in_sync_group]
                            )
                        )
                        for part in parts
                    )
                )
            )
        return found

    def named():
        return {f"weight {v.path}": v.numpy() for v in weights}

    loss, gradients = run(0, 3)[0]
    found = {"loss": loss}
    found |= {
        f"gradient {v.path}": g for v, g in zip(stage.trainable_variables, gradients, strict=True)
    }
    variables = checkpoints.named(weights, stage.optimizer)
    if own:
        checkpoints.Checkpoints(own, variables, keep=1).save(3)
    run(3, 5)
    found |= named()
    found |= {f"state {name}": v.numpy() for name, v in state.items()}
    found |= {f"metric {name}": value for name, value in stage.get_metrics_result().items()}
    if other:
        assert checkpoints.Checkpoints(other, variables, keep=1).restore()
        run(3, 5)
        found |= {f"resumed {name}": value for name, value in named().items()}
    return {name: np.asarray(value) for name, value in found.items()}


def main(file, count, other=None):
    environment.skip_graph_rewrites()
    strategy = distribute.make_strategy("mirrored" if count > 1 else "default", count)
    # At a ReLU's kink the last digit of an input decides on the whole of a gradient.
    keras.layers.ReLU = lambda name=None: keras.layers.Activation("softplus", name=name)
    kinds = ["no_bn"]
    if count < 4:
        kinds += ["global_bn", "local_bn", "memory", "tico", "micro_batches", "distill"]
        kinds += semi_supervised.KINDS
    folders = {"no_bn": {"own": f"{file}.checkpoint", "other": other}}
    results = {kind: measure(strategy, kind, **folders.get(kind, {})) for kind in kinds}
    if count == 1:
        results["perturbed"] = measure(strategy, "global_bn", noise=1e-7)
    flat = {f"{kind}|{n}": v for kind, values in results.items() for n, v in values.items()}
    np.savez(file, **{name.replace("/", "~"): value for name, value in flat.items()})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
