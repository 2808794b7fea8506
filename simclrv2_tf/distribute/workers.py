"""The processes of one training."""

import functools

import tensorflow as tf

from simclrv2_tf.distribute.collectives import all_gather


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the files of a run; always, where there is only one."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return True
    resolver = strategy.cluster_resolver
    if "chief" in resolver.cluster_spec().jobs:
        return resolver.task_type == "chief"
    return resolver.task_id == 0


def barrier(strategy: tf.distribute.Strategy) -> None:
    """Waits for every worker to get here; returns at once where there is only one."""
    of_all_replicas(strategy, 0)


def of_all_replicas(strategy: tf.distribute.Strategy, value: int) -> list[int]:
    """The `value` of each replica's worker; of one worker, its own alone."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return [value]
    values = _gathering(strategy)(tf.constant([value], tf.float32))  # exact to 16 million
    return [int(v) for v in strategy.experimental_local_results(values)[0].numpy()]


@functools.cache  # traced once
def _gathering(strategy: tf.distribute.Strategy):
    @tf.function(autograph=False)
    def gather(value):
        return strategy.run(lambda: all_gather(tf.identity(value)))  # one made on the replica

    return gather


class Agreement:
    """Makes one answer of those of all processes that train together: the largest.

    With several workers these exchange their answers at every tenth call alone, and the others give
    0: an exchange at every step would cost more than it is worth.

    Args:
        strategy: Of the run. All its processes must call as often.
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
