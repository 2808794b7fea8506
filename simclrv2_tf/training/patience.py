"""Early stopping: ends a stage when its validation has stopped improving."""

import math
from typing import NamedTuple

import keras
import numpy as np


class Waited(NamedTuple):
    """The state of early stopping.

    Attributes:
        best: The largest value; -inf before the first.
        step: The step of that value.
        since: Number of evaluations since then.
    """

    best: float = -math.inf
    step: int = 0
    since: int = 0


def after(waited: Waited, value: float, step: int) -> Waited:
    """Returns the state after another evaluation; an equal value is not an improvement."""
    if value > waited.best:
        return Waited(value, step)
    return waited._replace(since=waited.since + 1)


class StopEarly(keras.callbacks.Callback):
    """Stops the training when a metric has not increased for `patience` evaluations.

    Place it after the callback that adds the metric to the logs, and before the one that saves: the
    count is part of checkpoints, so that a resumed run stops at the same step. Create it in the
    scope of the run's strategy.

    Args:
        metric: Name of the metric in the logs of an epoch; epochs without it do not count.
        patience: Number of evaluations, at least 1.

    Attributes:
        variable: (3,) float32, the values of `Waited`.
    """

    def __init__(self, metric: str, patience: int):
        super().__init__()
        self._metric, self._patience = metric, patience
        self.variable = keras.Variable(Waited(), trainable=False, dtype="float32", name="waited")

    @property
    def waited(self) -> Waited:
        """The state so far, including evaluations before the run resumed."""
        best, step, since = self.variable.numpy().tolist()
        return Waited(best, int(step), int(since))

    @property
    def stopped(self) -> bool:
        """Whether the training was stopped."""
        return self.waited.since >= self._patience

    @property
    def reason(self) -> str:
        """The reason for stopping."""
        best, step, since = self.waited
        return (
            f"{self._metric} has not improved for {since} evaluation{'s' * (since > 1)}, since "
            f"{best:.4g} at step {step:,}"
        )

    def on_epoch_end(self, epoch, logs=None):
        if self._metric not in logs:
            return
        # In the variable's precision, so that equal values stay equal.
        value = float(np.float32(logs[self._metric]))
        step = int(self.model.optimizer.iterations.numpy())
        self.variable.assign(after(self.waited, value, step))
        if self.stopped:
            self.model.stop_training = True
