"""Networks whose weights are a moving average of other networks' weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from etils import epy

with epy.lazy_imports():
    import keras
    import tensorflow as tf

    from simclrv2_tf import distribute


class MovingAverage:
    """Models that follow others: `average = decay * average + (1 - decay) * weight` at each step.

    This is not a Keras object, so that a stage does not track the averages as its own weights.
    Create all models under the strategy that uses them.

    Args:
        models: The models to follow.
        averages: Models of the same architectures, which are modified.
        decay: Weight of the past, in [0, 1), or a function of the number of earlier updates.
        statistics: Whether to average the moving statistics of batch norm too. Averages that also
            run in training mode have their own statistics.

    Raises:
        ValueError: the architectures differ.
    """

    def __init__(
        self,
        models: Sequence[keras.Model],
        averages: Sequence[keras.Model],
        decay: float | Callable,
        statistics: bool = False,
    ):
        self.decay = decay
        ours, theirs = ([v for model in x for v in model.weights] for x in (averages, models))
        self._pairs = list(zip(ours, theirs, strict=True))
        for ours, theirs in self._pairs:
            if ours.path != theirs.path or ours.shape != theirs.shape:
                raise ValueError(
                    "`averages` must have the architectures of `models`. Received: "
                    f"{ours.path} {tuple(ours.shape)} for {theirs.path} {tuple(theirs.shape)}"
                )
        self._moving = [
            (ours, theirs)
            for ours, theirs in self._pairs
            if statistics and ours.path.rpartition("/")[2].startswith("moving_")
        ]

    @property
    def variables(self) -> dict[str, keras.Variable]:
        """Returns all weights by path, including moving statistics."""
        return {ours.path: ours for ours, _ in self._pairs}

    def begin(self) -> None:
        """Copies the weights of the followed models to the averages."""
        for ours, theirs in self._pairs:
            ours.assign(theirs.value)

    def give_back(self) -> None:
        """Copies the averages to the followed models."""
        for ours, theirs in self._pairs:
            theirs.assign(ours.value)

    def update(self, step=0) -> None:
        """Updates the averages with the weights; called in a replica's step.

        Args:
            step: Number of earlier updates, for a `decay` that depends on it.
        """
        decay = self.decay(step) if callable(self.decay) else self.decay

        def average(ours, theirs):
            return ours * decay + tf.cast(theirs, ours.dtype) * (1 - decay)

        pairs = [(ours.value, theirs.value) for ours, theirs in self._pairs if theirs.trainable]
        distribute.assign_each(average, *map(list, zip(*pairs, strict=True)))
        for ours, theirs in self._moving:  # each replica averages its own statistics
            ours.assign(average(ours.value, theirs.value))
