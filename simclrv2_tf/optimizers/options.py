"""Options of optimization, and the optimizer and schedule that they choose."""

from __future__ import annotations

import dataclasses

from etils import epy

from simclrv2_tf.options import Group, option

with epy.lazy_imports():
    import keras

    from simclrv2_tf.optimizers import lars
    from simclrv2_tf.optimizers import schedule as schedules

OPTIMIZERS = ("momentum", "adam", "lars")
SCALINGS = ("linear", "sqrt")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerOptions(Group, title="Training"):
    """How long a stage trains, with which optimizer and at which learning rate."""

    train_batch_size: int = option(
        512, "Images a step over all replicas (twice as many views).", minimum=1
    )
    train_epochs: int = option(100, "Epochs to train.", minimum=1)
    train_steps: int = option(
        0,
        "Steps to train, in each stage of a run of several; 0: as `train_epochs` says.",
        minimum=0,
    )
    optimizer: str = option(
        "lars", "Update rule of the network; momentum is Nesterov's.", choices=OPTIMIZERS
    )
    learning_rate: float = option(0.3, "Peak learning rate before scaling.", positive=True)
    learning_rate_scaling: str = option(
        "linear",
        "linear: learning_rate * batch size / 256. sqrt: learning_rate * sqrt(batch size).",
        choices=SCALINGS,
    )
    warmup_epochs: float = option(
        10.0,
        "Epochs of linear warm-up from 0; cosine decay to 0 follows. A warm-up longer than the run "
        "is followed as far as it goes.",
        minimum=0,
    )
    momentum: float = option(0.9, "Momentum of `lars` and `momentum`.", minimum=0, below=1)
    weight_decay: float = option(
        1e-4,
        "L2 weight decay. Batch norm parameters are left out; lars leaves out biases too.",
        minimum=0,
    )


def make_optimizer(options: OptimizerOptions, schedule) -> keras.optimizers.Optimizer:
    """Makes the optimizer that `options.optimizer` names, as the reference sets it up.

    Only LARS decays weights itself. With the others weight decay is part of the loss, and with LARS
    the supervised head's is: `l2_variables` says for which variables.

    Args:
        options: Which optimizer: LARS, SGD with Nesterov momentum, or Adam.
        schedule: A learning rate schedule, or a number.
    """
    if options.optimizer == "lars":
        return lars.LARS(schedule, options.momentum, options.weight_decay)
    rate = lars.checked_learning_rate(schedule)
    if options.optimizer == "adam":
        return keras.optimizers.Adam(rate)
    return keras.optimizers.SGD(rate, momentum=options.momentum, nesterov=True)


def make_schedule(
    options: OptimizerOptions, num_examples: int, batch_size: int | None = None
) -> tuple[schedules.WarmupCosine, int]:
    """Makes the schedule of a stage that trains on `num_examples` images.

    Args:
        options: Length of training and of warm-up, learning rate and its scaling.
        num_examples: Images of an epoch.
        batch_size: Images a step over all replicas; by default `options.train_batch_size`.

    Returns:
        The schedule and the number of steps.
    """
    batch_size = batch_size or options.train_batch_size
    steps = options.train_steps or schedules.total_steps(
        num_examples, options.train_epochs, batch_size
    )
    schedule = schedules.WarmupCosine(
        schedules.peak_learning_rate(
            options.learning_rate, batch_size, options.learning_rate_scaling
        ),
        schedules.warmup_steps(num_examples, options.warmup_epochs, batch_size),
        steps,
    )
    return schedule, steps
