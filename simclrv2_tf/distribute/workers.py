"""The processes of one training."""

from __future__ import annotations

import tensorflow as tf

from simclrv2_tf.distribute.collectives import all_gather


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes files; always, where there is only one."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return True
    resolver = strategy.cluster_resolver
    if "chief" in resolver.cluster_spec().jobs:
        return resolver.task_type == "chief"
    return resolver.task_id == 0


def barrier(strategy: tf.distribute.Strategy) -> None:
    """Waits until every worker has come to this line; at once where there is only one."""
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):

        @tf.function(autograph=False)
        def count():
            return strategy.reduce("SUM", strategy.run(lambda: tf.ones(())), axis=None)

        count().numpy()


def of_all_replicas(strategy: tf.distribute.Strategy, value: int) -> list[int]:
    """The value that the worker of each replica gives here; where there is one worker, its own."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return [value]

    @tf.function(autograph=False)
    def gather(value):
        return strategy.run(lambda: all_gather(tf.identity(value)))  # one made on the replica

    values = gather(tf.constant([value], tf.float32))  # exact to 16 million
    return [int(v) for v in strategy.experimental_local_results(values)[0].numpy()]
