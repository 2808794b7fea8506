"""Replicas: strategies by name, the processes of a run, and all collectives.

With one replica, collectives are the identity, so the mathematics that uses them is written once.
"""

from etils import epy

with epy.lazy_api_imports(globals()):
    from simclrv2_tf.distribute.collectives import (
        all_gather,
        all_reduce_mean,
        assign_each,
        equal_on_replicas,
        in_turn,
        in_turn_summed,
        replica_count,
        replica_id,
    )
    from simclrv2_tf.distribute.devices import (
        DeviceError,
        DeviceOptions,
        device_names,
        make_strategy,
        strategy_of,
    )
    from simclrv2_tf.distribute.workers import Agreement, barrier, is_chief, of_all_replicas
