"""The processes of one training."""

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

    @tf.function(autograph=False)
    def gather(value):
        return strategy.run(lambda: all_gather(tf.identity(value)))  # one made on the replica

    values = gather(tf.constant([value], tf.float32))  # exact to 16 million
    return [int(v) for v in strategy.experimental_local_results(values)[0].numpy()]
