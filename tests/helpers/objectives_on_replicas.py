"""A program: every objective, LARS and the calibration metric on two replicas, written to a file.

`python -m helpers.objectives_on_replicas FILE`. Logical devices are set before TensorFlow first
runs, so it needs a separate process. The same functions give the values on one replica.
"""

import json
import sys

import keras
import numpy as np
import tensorflow as tf

from helpers.formulas import ROWS, views
from simclrv2_tf import distribute, environment, metrics, objectives, optimizers, stages
from simclrv2_tf.training import loop

IMAGES, WIDTH = (2, 10), 6
CASES = [(name, case) for name, row in ROWS.items() for case in row.traced]
PATHS = ("a/kernel", "a/gamma", "b/kernel", "classifier/kernel")


def objective(name, case):
    """An objective with what an earlier batch left, for `value_and_gradient`."""
    cls, state = objectives.OBJECTIVES[name], ROWS[name].state(WIDTH)
    made = cls(**({"width": WIDTH} if state else {}), **ROWS[name].cases[case])
    for key, value in state.items():
        made.variables[key].assign(value)
    return made


def weight():
    return np.random.default_rng(3).normal(size=(WIDTH, WIDTH)).astype("float32")


def more(objective, x1, x2):
    """Negatives of which some count, or targets, where the objective takes them."""
    if objective.takes_targets:
        return {"targets": (x1, x2)}
    keys = np.random.default_rng(4).normal(size=(5, WIDTH)).astype("float32")
    valid = np.array([True, False, True, True, True])
    return {"negatives": keys, "negatives_valid": valid} if objective.takes_negatives else {}


def value_and_gradient(objective, x1, x2, w):
    """By name, of the embeddings x1 w and x2 w: loss, gradient in w, metrics and the new state."""
    with tf.GradientTape() as tape:
        tape.watch(w)
        z1, z2 = tf.matmul(x1, w), tf.matmul(x2, w)
        loss, found = objective(z1, z2, training=True, **more(objective, x1, x2))
    averaged = {"loss": loss, "gradient": tape.gradient(loss, w), **found}
    averaged = dict(zip(averaged, distribute.all_reduce_mean(list(averaged.values())), strict=True))
    return averaged | {name: tf.identity(v.value) for name, v in objective.variables.items()}


def lars():
    """LARS with variables to be excluded and to be adapted, and four steps of gradients."""
    rng = np.random.default_rng(0)
    variables = []
    for path in PATHS:
        scope, name = path.split("/")
        with keras.name_scope(scope):
            variables.append(keras.Variable(rng.normal(size=(3, 2)).astype("float32"), name=name))
    schedule = optimizers.WarmupCosine(1.0, 2, 10)
    made = optimizers.LARS(schedule, weight_decay=0.1, nesterov=True)
    made.build(variables)
    return made, variables, rng.normal(size=(4, len(PATHS), 3, 2)).astype("float32")


class Measured(stages.Stage):
    """A stage that only measures calibration."""

    def __init__(self):
        super().__init__()
        self.calibration = metrics.Calibration()

    def test_step(self, data):
        self.calibration.update_state(*data)
        return self.get_metrics_result()


def logits_of(count, classes, scale, seed=0):
    """Labels and logits; half of the labels are the prediction, so that accuracy is no chance."""
    rng = np.random.default_rng(seed)
    logits = scale * rng.standard_normal((count, classes), dtype=np.float32)
    labels = np.where(rng.random(count) < 0.5, logits.argmax(1), rng.integers(0, classes, count))
    return labels, logits


def run_objectives(strategy, local):
    def halves(x):
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(np.split(x, 2)[context.replica_id_in_sync_group])
        )

    with strategy.scope():
        w = tf.Variable(weight())
        made = {
            f"{name}, {case}, {images}": objective(name, case)
            for name, case in CASES
            for images in IMAGES
        }

    @tf.function(autograph=False)
    def run(x1, x2, images):
        def step(x1, x2):
            return {
                key: value_and_gradient(one, x1, x2, w)
                for key, one in made.items()
                if key.endswith(f" {images}")
            }

        return strategy.run(step, args=(x1, x2))

    x1, x2 = views(max(IMAGES), WIDTH)
    results = {}
    for images in IMAGES:
        found = run(halves(x1[:images]), halves(x2[:images]), images)
        results |= {key: {n: local(v) for n, v in one.items()} for key, one in found.items()}
    return results


def run_lars(strategy, local):
    with strategy.scope():
        optimizer, variables, steps = lars()

    @tf.function(autograph=False)
    def run(gradients):
        def step(gradients):
            # Gradients are summed over replicas: uneven shares of the whole.
            first = tf.distribute.get_replica_context().replica_id_in_sync_group == 0
            optimizer.apply([g * tf.where(first, 0.25, 0.75) for g in gradients])

        strategy.run(step, args=(gradients,))

    for gradients in steps:
        run([tf.constant(g) for g in gradients])
    return [local(v.value) for v in variables]


def run_calibration(strategy):
    with strategy.scope():
        stage = Measured()
        stage.compile(keras.optimizers.SGD(), jit_compile=False)
    labels, logits = logits_of(24, 4, 2.0)
    weights = np.r_[np.ones(20), np.zeros(4)].astype("float32")

    def batches(context):
        data = tf.data.Dataset.from_tensor_slices((labels, logits, weights)).batch(6)
        return data.shard(context.num_input_pipelines, context.input_pipeline_id)

    for _ in range(2):  # the second time, after a reset under the strategy
        logs = loop.evaluate(stage, strategy, batches, steps=2, verbose=0)
    return [logs, stage.calibration.bins()]


def main(file):
    environment.skip_graph_rewrites()
    strategy = distribute.make_strategy("mirrored", 2)
    assert strategy.num_replicas_in_sync == 2

    def local(value):
        return [x.numpy().tolist() for x in strategy.experimental_local_results(value)]

    results = {
        "objectives": run_objectives(strategy, local),
        "lars": run_lars(strategy, local),
        "calibration": run_calibration(strategy),
    }
    with open(file, "w") as out:
        json.dump(results, out)


if __name__ == "__main__":
    main(sys.argv[1])
