"""The processes of one training."""

import functools

import tensorflow as tf

from simclrv2_tf.distribute.collectives import all_gather


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the files of a run; True if there is only one process."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return True
    resolver = strategy.cluster_resolver
    if "chief" in resolver.cluster_spec().jobs:
        return resolver.task_type == "chief"
    return resolver.task_id == 0


def barrier(strategy: tf.distribute.Strategy) -> None:
    """Waits for every worker to reach this call; returns immediately if there is only one."""
    of_all_replicas(strategy, 0)


def of_all_replicas(strategy: tf.distribute.Strategy, value: int) -> list[int]:
    """Returns the `value` of each replica's worker; with one worker, only its own."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return [value]
    values = _gathering(strategy)(tf.constant([value], tf.float32))  # exact to 16 million
    return [int(v) for v in strategy.experimental_local_results(values)[0].numpy()]


@functools.cache  # traced once
def _gathering(strategy: tf.distribute.Strategy):
    @tf.function(autograph=False)
    def gather(value):
        return strategy.run(lambda: all_gather(tf.identity(value)))  # a tensor made on the replica

    return gather


class Agreement:
    """Combines the answers of all processes that train together: the largest one.

    Several workers exchange their answers only at every tenth call, and the other calls give 0,
    because an exchange at every step would be too slow.

    Args:
        strategy: The run's strategy. All its processes must make the same number of calls.
    """

    _EVERY = 10

    def __init__(self, strategy: tf.distribute.Strategy):
        self._strategy, self._calls = strategy, 0
        self._alone = not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)

    def __call__(self, answer: int) -> int:
        if self._alone:
            return answer
        self._calls += 1
        if self._calls % self._EVERY:
            return 0
        return max(of_all_replicas(self._strategy, answer))
