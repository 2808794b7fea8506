"""Diverging training: losses or weights that are not finite, their likely causes, loss spikes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
from absl import logging

from simclrv2_tf.errors import UserError
from simclrv2_tf.optimizers import WarmupCosine

# Lower than any published temperature of contrastive losses: scales logits up most.
_LOW_TEMPERATURE = 0.05


class NonFiniteError(UserError):
    """The loss or a weight became NaN or infinite; the run stops.

    Args:
        what: A sentence that says what became NaN or infinite, and at which step.
        causes: Likely causes, see `likely_causes`.
        checkpoint: The last checkpoint, which is finite, or None.

    Attributes:
        what: As the argument.
    """

    exit_status = 1

    def __init__(self, what: str, causes: Sequence[str] = (), checkpoint: str | None = None):
        self.what = what
        advice = "Lower the learning rate, lengthen the warm-up or use float32."
        if causes:
            advice = (
                f"Likely causes: {'; '.join(causes)}. Change these settings in another --model_dir"
            )
            advice += f", optionally from --checkpoint={checkpoint}." if checkpoint else "."
        last = f" The last finite checkpoint is {checkpoint}." if checkpoint else ""
        super().__init__(f"{what} No checkpoint of this state was written.{last} {advice}")


def likely_causes(
    *,
    first: bool,
    rate: float,
    schedule: WarmupCosine,
    precision: str,
    temperature: float | None = None,
) -> list[str]:
    """Returns causes of values that are not finite, the likeliest first.

    Args:
        first: Whether no earlier step was finite.
        rate: The learning rate of the step.
        schedule: The run's schedule.
        precision: The Keras dtype policy, such as "mixed_bfloat16".
        temperature: Temperature of a contrastive objective; None for others.
    """
    causes = []
    if first:
        causes.append("images or starting weights that are not finite")
    flags = "--learning_rate" + (", --warmup_epochs" if rate <= schedule.peak else "")
    causes.append(
        f"a learning rate that is too high, {rate:.4g} of {schedule.peak:.4g} at its peak ({flags})"
    )
    if precision != "float32":
        causes.append(f"the rounding of {precision} (--precision=float32)")
    if temperature is not None and temperature < _LOW_TEMPERATURE:
        causes.append(f"a low temperature, {temperature:g} (--temperature)")
    return causes


class LossSpikes(keras.callbacks.Callback):
    """Warns once when the loss of a step is far above the loss of the first steps.

    Earlier learning is then lost, although the loss stays finite. The loss of a step is computed
    from the epoch's mean, so a call of several steps counts as one step with their mean.

    Args:
        earlier: The mean loss of the run's first epoch, if the run resumed after it.
        checkpoint: Returns the last checkpoint, or None.
        factor: Ratio from which a loss is a spike.
        first_steps: Calls of the compiled function whose mean is the loss of the first steps.
    """

    def __init__(
        self,
        earlier: float | None,
        checkpoint: Callable[[], str | None],
        factor: float = 2.0,
        first_steps: int = 10,
    ):
        super().__init__()
        self._level, self._checkpoint = earlier, checkpoint
        self._factor, self._first_steps = factor, first_steps
        self._first: list[float] = []
        self._sum, self._count, self._warned = 0.0, 0, False

    def on_epoch_begin(self, epoch, logs=None):
        self._sum, self._count = 0.0, 0

    def on_train_batch_end(self, batch, logs=None):
        total, count = logs["loss"] * (batch + 1), batch + 1
        loss = (total - self._sum) / (count - self._count)
        self._sum, self._count = total, count
        if self._level is None:
            self._first.append(loss)
            if len(self._first) == self._first_steps:
                self._level = sum(self._first) / self._first_steps
        elif loss > self._factor * self._level > 0 and not self._warned:
            self._warned = True
            logging.warning(
                "Loss spike at step %d: %.4g, compared with %.4g in the first steps; learning rate "
                "%.4g. "
                "If the loss stays there, lower the learning rate or lengthen the warm-up. The "
                "last checkpoint is %s.",
                int(self.model.optimizer.iterations.numpy()),
                loss,
                self._level,
                logs["learning_rate"],
                self._checkpoint() or "not written yet",
            )
