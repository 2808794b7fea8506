"""Options of optimization, and the optimizer, L2 penalty and schedule made from them."""

from __future__ import annotations

import dataclasses

from etils import epy

from simclrv2_tf.options import Group, option

with epy.lazy_imports():
    import keras
    from keras import ops

    from simclrv2_tf.optimizers import adam, lars
    from simclrv2_tf.optimizers import schedule as schedules

OPTIMIZERS = ("momentum", "adam", "lars")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerOptions(Group, title="Training"):
    """The length of training, the optimizer and the learning rate of a stage."""

    train_batch_size: int = option(
        512, "Images per step over all replicas (twice as many views).", minimum=1
    )
    train_epochs: int = option(100, "Epochs to train.", minimum=1)
    train_steps: int = option(
        0,
        "Steps to train, in each stage of a run of several; 0: use `train_epochs`.",
        minimum=0,
    )
    optimizer: str = option(
        "lars", "Update rule of the network; momentum is Nesterov's.", choices=OPTIMIZERS
    )
    learning_rate: float = option(0.3, "Peak learning rate before scaling.", positive=True)
    learning_rate_scaling: str = option(
        "linear",
        "linear: learning_rate * batch size / 256. sqrt: learning_rate * sqrt(batch size).",
        choices=("linear", "sqrt"),
    )
    warmup_epochs: float = option(
        10.0,
        "Epochs of linear warm-up from 0, before cosine decay to 0. A warm-up longer than the run "
        "ends with the run.",
        minimum=0,
    )
    momentum: float = option(0.9, "Momentum of `lars` and `momentum`.", minimum=0, below=1)
    weight_decay: float = option(
        1e-4,
        "L2 weight decay. Excludes batch norm parameters, and with lars also biases.",
        minimum=0,
    )


def make_optimizer(options: OptimizerOptions, schedule) -> keras.optimizers.Optimizer:
    """Makes LARS, SGD with Nesterov momentum or Adam, configured as in the reference.

    `schedule` is a learning rate schedule or a number. Except for LARS, weight decay is part of the
    loss: see `l2_variables`.
    """
    if options.optimizer == "lars":
        return lars.LARS(schedule, options.momentum, options.weight_decay)
    rate = lars.checked_learning_rate(schedule)
    if options.optimizer == "adam":
        return adam.Adam(rate)
    return keras.optimizers.SGD(rate, momentum=options.momentum, nesterov=True)


def l2_variables(optimizer: keras.optimizers.Optimizer, variables) -> list:
    """Selects the trainable `variables` whose L2 penalty belongs in the loss with `optimizer`.

    This is the reference's rule. LARS decays all but its excluded variables in its update; of the
    excluded ones, the supervised head's kernel is decayed through the loss. Other optimizers decay
    nothing themselves: all variables except batch norm parameters are decayed through the loss,
    including biases.

    ```python
    loss += weight_decay * l2_loss(l2_variables(optimizer, model.trainable_variables))
    ```
    """
    # Keras wraps the optimizer to scale the loss under mixed_float16.
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    kept = [v for v in variables if not lars.matches(v, lars.BATCH_NORM)]
    if isinstance(optimizer, lars.LARS):
        kept = [v for v in kept if lars.matches(v, optimizer.exclude)]
        kept = [v for v in kept if lars.matches(v, lars.SUPERVISED_HEAD)]
        kept = [v for v in kept if not lars.matches(v, lars.BIAS)]
    return kept


def l2_loss(variables):
    """Returns the sum of ||p||^2 / 2 over `variables`: () float32, 0 if there are none."""
    halves = (0.5 * ops.sum(ops.square(ops.cast(v, "float32"))) for v in variables)
    return sum(halves, start=ops.zeros((), "float32"))


def make_schedule(
    options: OptimizerOptions, num_examples: int, batch_size: int | None = None
) -> tuple[schedules.WarmupCosine, int]:
    """Makes the schedule of a stage that trains on `num_examples` images, and counts its steps.

    `batch_size` is in images over all replicas, by default `options.train_batch_size`.
    """
    batch = batch_size or options.train_batch_size
    steps = options.train_steps or schedules.total_steps(num_examples, options.train_epochs, batch)
    scaling = options.learning_rate_scaling
    peak = schedules.peak_learning_rate(options.learning_rate, batch, scaling)
    warmup = schedules.warmup_steps(num_examples, options.warmup_epochs, batch)
    return schedules.WarmupCosine(peak, warmup, steps), steps
