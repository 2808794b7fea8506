"""Optimizers: LARS, Adam, the warm-up + cosine schedule, and the L2 rules of each optimizer."""

from etils import epy

from simclrv2_tf.optimizers.options import (
    OPTIMIZERS,
    OptimizerOptions,
    l2_loss,
    l2_variables,
    make_optimizer,
    make_schedule,
)

with epy.lazy_api_imports(globals()):
    from simclrv2_tf.optimizers.adam import Adam
    from simclrv2_tf.optimizers.lars import LARS
    from simclrv2_tf.optimizers.schedule import (
        HeldAtPeak,
        VariableWarmupCosine,
        WarmupCosine,
        peak_learning_rate,
        total_steps,
        warmup_steps,
    )
