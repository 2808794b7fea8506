"""Our side of step.py: the training step, with views in memory or drawn, or a part of it.

Command: python benchmarks/speed/our_step.py CASE PRECISION WHAT, as in the dictionary below.
"""

import collections
import math
import sys

from cases import CASES, NUM_CLASSES, TEMPERATURE, Case
from worker import serve

from simclrv2_tf import environment

environment.prepare()

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from simclrv2_tf import augment, datasets, heads, objectives, optimizers, resnet, stages  # noqa: E402
from simclrv2_tf.datasets.sources import PACKAGED  # noqa: E402
from simclrv2_tf.training import loop  # noqa: E402


def networks(case: Case) -> list[keras.Model]:
    """Encoder, projection head and online classifier."""
    encoder = resnet.resnet(case.depth, case.width, sk_ratio=case.sk_ratio, stem=case.stem)
    width = encoder.output_shape[-1]
    return [encoder, heads.projection_head(width), heads.classifier(width, NUM_CLASSES)]


def step_of(case: Case, batches: tf.data.Dataset | None = None, timed: bool = True):
    """Returns one call of the training loop, with the metrics as numbers.

    Args:
        case: The training step.
        batches: Batches of two views and labels; default: one batch in memory, repeated.
        timed: As for `loop.train`.
    """
    models = networks(case)
    encoder, head, classifier = models
    stage = stages.Pretrainer(encoder, head, objectives.NTXent(temperature=TEMPERATURE), classifier)
    decay = 1e-6 if case.optimizer == "adam" else 1e-4
    options = optimizers.OptimizerOptions(optimizer=case.optimizer, weight_decay=decay)
    optimizer = optimizers.make_optimizer(options, optimizers.WarmupCosine(1e-3, 0, 100_000))

    def penalty(variables):
        return decay * optimizers.l2_loss(optimizers.l2_variables(optimizer, variables))

    stage.penalty = penalty
    stage.compile(optimizer=optimizer, jit_compile=False)
    optimizer.build(stage.trainable_variables)
    trained = [variable for model in models for variable in model.trainable_weights]
    print("parameters", sum(math.prod(variable.shape) for variable in trained), flush=True)
    if batches is None:
        views = tf.random.uniform((2, case.batch, case.size, case.size, 3))
        labels = tf.random.uniform((case.batch,), 0, NUM_CLASSES, tf.int64)
        batches = tf.data.Dataset.from_tensors(((views[0], views[1]), labels)).repeat()
    strategy = tf.distribute.get_strategy()
    run = loop.train_function(stage, strategy, several=False, timed=timed)
    iterator = iter(batches)
    return lambda: loop.numbers(run(iterator, tf.constant(1))[0])


def convolutions_of(case: Case):
    """Runs the convolutions and dense layers of a step with their gradients, one by one."""
    encoder, head, _ = networks(case)
    dtype = keras.config.dtype_policy().compute_dtype
    counted = collections.Counter()
    kinds = (keras.layers.Conv2D, keras.layers.Dense)
    for model, shape in (
        (encoder, (2 * case.batch, case.size, case.size, 3)),
        (head, (2 * case.batch, encoder.output_shape[-1])),
    ):
        used = [layer for layer in model.layers if isinstance(layer, kinds)]
        inputs = keras.Model(model.input, [layer.input for layer in used])
        traced = tf.function(inputs).get_concrete_function(tf.TensorSpec(shape))
        for layer, given in zip(used, traced.structured_outputs, strict=True):
            dense = isinstance(layer, keras.layers.Dense)
            stride = 1 if dense else layer.strides[0]
            padding = "SAME" if dense else layer.padding.upper()
            counted[tuple(given.shape), tuple(layer.kernel.shape), stride, padding] += 1
    work = []
    for (given, kernel, stride, padding), count in counted.items():
        x, k = (tf.cast(tf.random.normal(shape), dtype) for shape in (given, kernel))
        work.append((x, k, stride, padding, count, given[-1] == 3))

    def one(x, k, stride, padding, first):
        if k.shape.rank == 2:
            y = tf.matmul(x, k)
            return [y, tf.matmul(y, k, transpose_b=True), tf.matmul(x, y, transpose_a=True)]
        y = tf.nn.conv2d(x, k, stride, padding)
        found = [
            y,
            tf.raw_ops.Conv2DBackpropFilter(
                input=x,
                filter_sizes=k.shape,
                out_backprop=y,
                strides=[1, stride, stride, 1],
                padding=padding,
            ),
        ]
        if not first:  # images need no gradient
            found.append(
                tf.raw_ops.Conv2DBackpropInput(
                    input_sizes=x.shape,
                    filter=k,
                    out_backprop=y,
                    strides=[1, stride, stride, 1],
                    padding=padding,
                )
            )
        return found

    @tf.function
    def all_of_them(tensors):
        done = []
        for (x, k), (*_, stride, padding, count, first) in zip(tensors, work, strict=True):
            for _ in range(count):
                with tf.control_dependencies(done[-3:]):
                    # A different operation each time: equal ones would be computed once.
                    done += one(tf.identity(x), k, stride, padding, first)
        with tf.control_dependencies(done):
            return tf.constant(0)

    tensors = [(x, k) for x, k, *_ in work]
    return lambda: all_of_them(tensors).numpy()


def demo_batches(case: Case) -> tf.data.Dataset:
    """Draws views of the packaged images as in the demo."""
    options = augment.ViewOptions(min_crop_area=0.25, use_blur=False, color_jitter_strength=0.5)
    split = datasets.open_dataset(PACKAGED).split("train")
    return datasets.pretraining_batches(
        split, batch_size=case.batch, image_size=case.size, seed=0, views=options
    )


def views_of(case: Case):
    """Returns a batch of the demo's views."""
    iterator = iter(demo_batches(case))
    return lambda: next(iterator)


def run_of(case: Case):
    """Returns a step that draws the demo's views."""
    return step_of(case, demo_batches(case))


def deterministic_of(case: Case):
    """Returns a step with deterministic operations."""
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(0)
    return step_of(case, timed=False)


if __name__ == "__main__":
    environment.skip_graph_rewrites()
    keras.config.set_dtype_policy(sys.argv[2])
    measured = {
        "step": step_of,
        "run": run_of,
        "deterministic": deterministic_of,
        "convolutions": convolutions_of,
        "views": views_of,
    }
    # Enough warm-up to empty the buffers that filled during tracing.
    warm_up = {"views": 20, "run": 20}.get(sys.argv[3], 3)
    serve(measured[sys.argv[3]](CASES[sys.argv[1]]), warm_up)
