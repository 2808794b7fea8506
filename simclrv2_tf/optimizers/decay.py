"""The L2 rules that go with each optimizer: which variables are decayed through the loss."""

from __future__ import annotations

import keras
from keras import ops

from simclrv2_tf.optimizers.lars import BATCH_NORM, BIAS, LARS, SUPERVISED_HEAD, matches


def l2_variables(optimizer: keras.optimizers.Optimizer, variables) -> list:
    """Those of the trainable `variables` whose L2 penalty belongs in the loss with `optimizer`.

    The reference's rule. LARS decays inside its update all but what it excludes; of that, the
    supervised head's kernel is decayed through the loss. Other optimizers decay nothing
    themselves: all but batch norm parameters are decayed through the loss, biases included.

    ```python
    loss += weight_decay * l2_loss(l2_variables(optimizer, model.trainable_variables))
    ```
    """
    # Keras wraps the optimizer to scale the loss under mixed_float16.
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if isinstance(optimizer, LARS):
        excluded = [v for v in variables if matches(v, optimizer.exclude)]
        supervised = [v for v in excluded if matches(v, SUPERVISED_HEAD)]
        return [v for v in supervised if not matches(v, BATCH_NORM + BIAS)]
    return [v for v in variables if not matches(v, BATCH_NORM)]


def l2_loss(variables):
    """Sum of ||p||^2 / 2 over `variables`: () float32, 0 where there are none."""
    return sum(
        (0.5 * ops.sum(ops.square(ops.cast(v, "float32"))) for v in variables),
        start=ops.zeros((), "float32"),
    )
