"""Learning rate schedules: linear warm-up and cosine decay, with their peak and lengths."""

import math

import keras
from keras import ops

from simclrv2_tf.optimizers.options import OptimizerOptions
from simclrv2_tf.options import of


@keras.saving.register_keras_serializable(package="simclrv2_tf")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from 0 to `peak`, then half a cosine from `peak` to 0.

    ```
    step < warmup_steps:                peak * step / warmup_steps
    warmup_steps <= step < total_steps: peak * (1 + cos(pi * done)) / 2,
                                        done = (step - warmup_steps) / (total_steps - warmup_steps)
    after:                              0
    ```

    Steps count from 0, so without warm-up the first rate is `peak`. A warm-up longer than the run
    ends with the run. This is the default of arXiv 2002.05709, section 2.3.

    Args:
        peak, warmup_steps, total_steps: At least 0, warm-up included in `total_steps`; see
            `peak_learning_rate`, `warmup_steps` and `total_steps`.

    Raises:
        ValueError: a value is negative or not finite.
    """

    def __init__(self, peak: float, warmup_steps: int, total_steps: int):
        super().__init__()
        if not 0 <= peak < math.inf:
            raise ValueError(f"`peak` must be finite and at least 0. Received: peak={peak}")
        rule = of(OptimizerOptions)["train_steps"]
        self.peak = float(peak)
        self.warmup_steps = rule.check(warmup_steps, "warmup_steps")
        self.total_steps = rule.check(total_steps, "total_steps")

    def __call__(self, step):
        """() integer (or float) step, from 0 -> () float32 learning rate."""
        return _warmup_cosine(step, self.peak, self.warmup_steps, self.total_steps)

    def get_config(self):
        names = ("peak", "warmup_steps", "total_steps")
        return {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable(package="simclrv2_tf")
class VariableWarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """A `WarmupCosine` that can change in an already traced training step.

    The peak and the lengths are variables, which `follow` sets.

    Args:
        schedule: The initial schedule.
    """

    def __init__(self, schedule: WarmupCosine):
        super().__init__()
        variable = dict(trainable=False, initializer="zeros")
        self._peak = keras.Variable(shape=(), dtype="float32", name="peak", **variable)
        self._steps = keras.Variable(shape=(2,), dtype="int64", name="steps", **variable)
        self.follow(schedule)

    def follow(self, schedule: WarmupCosine) -> None:
        """Copies the peak and the lengths of `schedule`."""
        self._schedule = schedule
        self._peak.assign(schedule.peak)
        self._steps.assign((schedule.warmup_steps, schedule.total_steps))

    @property
    def warmup_steps(self):
        """Number of warm-up steps, as a tensor."""
        return ops.convert_to_tensor(self._steps)[0]

    def __call__(self, step):
        """() integer step, from 0 -> () float32 learning rate."""
        warmup_steps, total_steps = ops.unstack(ops.convert_to_tensor(self._steps), 2)
        step = ops.cast(step, "int64")
        return _warmup_cosine(step, self._peak, warmup_steps, total_steps)

    def get_config(self):
        return {"schedule": keras.saving.serialize_keras_object(self._schedule)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["schedule"]))


@keras.saving.register_keras_serializable(package="simclrv2_tf")
class HeldAtPeak(keras.optimizers.schedules.LearningRateSchedule):
    """The warm-up of another schedule, then its peak without decay (SimSiam's predictor).

    arXiv 2011.10566, section 4.2: the predictor's learning rate does not decay.

    Args:
        schedule: A `WarmupCosine` or `VariableWarmupCosine`.
    """

    def __init__(self, schedule: WarmupCosine | VariableWarmupCosine):
        super().__init__()
        self._schedule = schedule

    def __call__(self, step):
        """() integer step, from 0 -> () float32 learning rate."""
        warmup_steps = ops.cast(ops.convert_to_tensor(self._schedule.warmup_steps), "int64")
        return self._schedule(ops.minimum(ops.cast(step, "int64"), warmup_steps))

    def get_config(self):
        return {"schedule": keras.saving.serialize_keras_object(self._schedule)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["schedule"]))


def _warmup_cosine(step, peak, warmup_steps, total_steps):
    step = ops.convert_to_tensor(step)
    # Subtracted before the cast, and as a sine of what remains rather than one plus a cosine:
    # nothing cancels, so late steps of long runs keep all digits of float32.
    remaining = ops.cast(ops.maximum(total_steps - step, 0), "float32")
    decay_steps = ops.cast(ops.maximum(total_steps - warmup_steps, 1), "float32")
    cosine = ops.square(ops.sin(0.5 * math.pi * ops.minimum(remaining / decay_steps, 1.0)))
    ramp = ops.cast(step, "float32") / ops.cast(ops.maximum(warmup_steps, 1), "float32")
    return peak * ops.where(step < warmup_steps, ramp, cosine)


def peak_learning_rate(base: float, batch_size: int, scaling: str = "linear") -> float:
    """Returns the learning rate at the end of warm-up, for a global batch (arXiv 2002.05709, B.1).

    `"linear"` scaling gives base * batch_size / 256, `"sqrt"` base * sqrt(batch_size), where
    `batch_size` counts images of the global batch, not views.

    Raises:
        ValueError: `scaling` is unknown, or `batch_size` is below 1.
    """
    of(OptimizerOptions)["train_batch_size"].check(batch_size, "batch_size")
    of(OptimizerOptions)["learning_rate_scaling"].check(scaling, "scaling")
    return base * batch_size / 256 if scaling == "linear" else base * math.sqrt(batch_size)


def total_steps(num_examples: int, epochs: int, batch_size: int) -> int:
    """Returns the steps of a run: num_examples * epochs // batch_size + 1, as in the reference."""
    of(OptimizerOptions)["train_batch_size"].check(batch_size, "batch_size")
    return int(num_examples * epochs // batch_size) + 1


def warmup_steps(num_examples: int, warmup_epochs: float, batch_size: int) -> int:
    """Returns the steps of warm-up, as in the reference; `warmup_epochs` may be a fraction."""
    of(OptimizerOptions)["train_batch_size"].check(batch_size, "batch_size")
    return int(round(warmup_epochs * num_examples // batch_size))
