"""Trains and evaluates a stage under any strategy, with Keras's callbacks.

Keras's `fit` fails under several workers (keras issue 20585) and drops features with several
replicas. This loop around the stage's own `update` and `test_step` behaves the same everywhere.
"""

import math
import time
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from simclrv2_tf import distribute, processors
from simclrv2_tf.training.divergence import NonFiniteError

Batches = Callable[[tf.distribute.InputContext], tf.data.Dataset]


def train(
    stage: keras.Model,
    strategy: tf.distribute.Strategy,
    batches: Batches,
    *,
    schedule: Callable[[int], float],
    total_steps: int,
    epochs: int,
    start_step: int = 0,
    steps_per_execution: int = 1,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 1,
) -> keras.callbacks.History:
    """Trains a compiled `stage` up to `total_steps` updates; returns Keras's history.

    Callbacks are called as in `fit`: once per `steps_per_execution` steps, with the index of the
    last step in its epoch. Their logs hold the stage's metrics since the epoch began and the step's
    `learning_rate`.

    Args:
        stage: A compiled `stages.Stage`, built under `strategy`.
        batches: Makes the infinite data set of one input pipeline, in batches of the context's
            per-replica size, from `start_step` on.
        schedule: The optimizer's learning rate at a step, for the logs.
        total_steps: Updates of the whole run, including those before `start_step`.
        epochs: Number of epochs; their steps differ by at most one.
        start_step: Updates that the stage has already made. If these end within an epoch, the
            stage's metrics belong to that epoch.
        steps_per_execution: Updates in one call of the compiled function, or until an epoch ends.
        verbose: 0 silent, 1 Keras's progress bar, 2 one line per epoch.

    Raises:
        NonFiniteError: The training loss is NaN or infinite. The call's steps were applied, but no
            callback was called for them.
    """
    epochs = min(epochs, total_steps)
    ends = [round(total_steps * (epoch + 1) / epochs) for epoch in range(epochs)]
    params = {"verbose": verbose, "epochs": epochs, "steps": ends[0]}
    callback_list = keras.callbacks.CallbackList(
        list(callbacks), add_history=True, add_progbar=verbose > 0, model=stage, **params
    )
    iterator = iter(strategy.distribute_datasets_from_function(batches))
    run_steps = train_function(stage, strategy, steps_per_execution > 1)
    stage.waits = waits = Waits() if _has_clock() else None
    stage.stop_training = False
    callback_list.on_train_begin()
    logs = {}
    for epoch, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
        if end <= start_step or stage.stop_training:
            continue
        if start_step <= begin:
            stage.reset_metrics()  # within an epoch, a checkpoint has restored them
        callback_list.set_params({**params, "steps": end - begin})
        callback_list.on_epoch_begin(epoch)
        index = max(begin, start_step)
        while index < end and not stage.stop_training:
            callback_list.on_train_batch_begin(index - begin)
            count = min(steps_per_execution, end - index)
            began = time.perf_counter()
            metrics, waited = run_steps(iterator, tf.constant(count))
            metrics = numbers(metrics)
            if waits:
                waits.add(float(waited), time.perf_counter() - began)
            index += count
            rate = float(schedule(index - 1))
            logs = {**metrics, "learning_rate": rate}
            if not math.isfinite(logs["loss"]):
                raise NonFiniteError(
                    f"The training loss became {logs['loss']} at step {index} of {total_steps}, "
                    f"learning rate {rate:.4g}."
                )
            callback_list.on_train_batch_end(index - 1 - begin, logs)
        callback_list.on_epoch_end(epoch, logs)
    callback_list.on_train_end(logs)
    return stage.history


class Waits:
    """The share of the training time spent waiting for data, except for the first call."""

    _MUCH = 0.2

    def __init__(self):
        self._calls, self._waited, self._seconds = 0, 0.0, 0.0

    def add(self, waited: float, seconds: float) -> None:
        """Adds one call of the compiled function."""
        if self._calls:
            self._waited, self._seconds = self._waited + waited, self._seconds + seconds
        self._calls += 1

    @property
    def share(self) -> float | None:
        """The share, in [0, 1]; None before the second call."""
        return self._waited / self._seconds if self._calls > 1 else None

    @property
    def advice(self) -> str | None:
        """Advice if the share is large; else None."""
        if self.share is None or self.share <= self._MUCH:
            return None
        return (
            f'Waiting for data took {self.share:.0%} of the training time: see "A slow input '
            'pipeline" in docs/several_devices.md.'
        )


def evaluate(
    stage: keras.Model,
    strategy: tf.distribute.Strategy,
    batches: Batches,
    *,
    steps: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 1,
    on_answers: Callable[[dict[str, np.ndarray]], None] | None = None,
) -> dict[str, float]:
    """Evaluates `stage` on `steps` global batches; returns its metrics, by name.

    `batches` makes the finite data set of one input pipeline. Every replica must receive the same
    number of batches of the same size: the last batch is padded, with weights of 0. `on_answers` is
    called after each batch with the stage's `answers`, (R * b,) each, ordered by replica.
    """
    params = {"verbose": verbose, "epochs": 1, "steps": steps}
    callback_list = keras.callbacks.CallbackList(
        list(callbacks), add_progbar=verbose > 0, model=stage, **params
    )
    iterator = iter(strategy.distribute_datasets_from_function(batches))
    step = _test_function(stage, strategy, with_answers=on_answers is not None)
    stage.reset_metrics()
    callback_list.on_test_begin()
    logs = {}
    for index in range(steps):
        callback_list.on_test_batch_begin(index)
        metrics, answers = step(iterator)
        logs = numbers(metrics)
        if on_answers:
            on_answers(
                {
                    name: strategy.experimental_local_results(values)[0].numpy()
                    for name, values in answers.items()
                }
            )
        callback_list.on_test_batch_end(index, logs)
    callback_list.on_test_end(logs)
    return logs


def gather(function: Callable, strategy: tf.distribute.Strategy, batches: Batches) -> Callable:
    """Makes a function that applies `function` to the first global batch of `batches`.

    `function` maps a replica's batch to a list of tensors, (b, ...) each. The returned function has
    no arguments, and returns NumPy arrays, (N, ...), for the examples of all replicas.
    """
    batch = next(iter(strategy.distribute_datasets_from_function(batches)))

    @tf.function(autograph=False)
    def gathered(batch):
        return strategy.run(
            lambda part: [distribute.all_gather(x) for x in function(part)], args=(batch,)
        )

    local = strategy.experimental_local_results
    return lambda: [local(values)[0].numpy() for values in gathered(batch)]


def train_function(stage, strategy, several: bool, timed: bool = True) -> Callable:
    """Returns `run(iterator, count)`, which makes `count` updates, or one if not `several`.

    `run` returns the metrics so far, by name, and the seconds for which its updates waited for
    data, a float64 scalar, 0 if not `timed` or without a clock. The stage caches it: another call
    for the same stage and strategy is not traced again.
    """

    clocked = timed and _has_clock()
    clock = tf.timestamp if clocked else lambda: tf.constant(0.0, tf.float64)

    def update(iterator):
        began = clock()
        with tf.control_dependencies([began]):
            data = next(iterator)
        with tf.control_dependencies(tf.nest.flatten(data, expand_composites=True)):
            waited = clock() - began
        strategy.run(after, args=(waited, data))
        return waited

    def after(waited, data):
        # On one core the clock would otherwise be read after operations of the update.
        if clocked:
            with tf.control_dependencies([waited]):
                data = tf.nest.map_structure(tf.identity, data)
        stage.update(data)

    def one_step(iterator, count):
        del count  # always 1
        waited = update(iterator)
        return stage.get_metrics_result(), waited

    def steps(iterator, count):
        def step(index, waited):
            return index + 1, waited + update(iterator)

        start = [tf.constant(0), tf.constant(0.0, tf.float64)]
        _, waited = tf.while_loop(
            lambda index, waited: index < count, step, start, parallel_iterations=1
        )
        return stage.get_metrics_result(), waited

    return _traced(stage, steps if several else one_step)


def _has_clock() -> bool:
    """Whether operations can read the time: not in a process with deterministic operations."""
    try:
        tf.timestamp()
    except tf.errors.FailedPreconditionError:
        return False
    return True


def _test_function(stage, strategy, with_answers: bool) -> Callable:
    """Returns `run(iterator)`, which evaluates one batch.

    `run` returns the metrics so far and, `with_answers`, the answers of all replicas, equal on each
    replica.
    """

    def of_replica(data):
        with processors.faster_operations():
            answers = stage.answers(data)
        return {name: distribute.all_gather(values) for name, values in answers.items()}

    def test_step_with_answers(iterator):
        answers = strategy.run(of_replica, args=(next(iterator),))
        return stage.get_metrics_result(), answers

    def without_answers(data):
        with processors.faster_operations():
            stage.test_step(data)

    def test_step(iterator):
        strategy.run(without_answers, args=(next(iterator),))
        return stage.get_metrics_result(), {}

    return _traced(stage, test_step_with_answers if with_answers else test_step)


def _traced(stage, function: Callable) -> Callable:
    """Compiles `function`, or returns the stage's cached one with that name."""
    if function.__name__ not in stage.traced:
        # Steps only branch in Python, and AutoGraph's conversion is slow.
        stage.traced[function.__name__] = tf.function(function, autograph=False)
    return stage.traced[function.__name__]


def numbers(metrics: dict[str, tf.Tensor]) -> dict[str, float]:
    """Reads metrics as Python numbers."""
    return {name: float(value) for name, value in metrics.items()}
