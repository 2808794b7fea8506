"""The answers of an evaluation, image by image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etils import epy

with epy.lazy_imports():
    import numpy as np

    from simclrv2_tf import predictions

if TYPE_CHECKING:
    import tensorflow as tf

    from simclrv2_tf import datasets


class Answers:
    """Collects `stages.Evaluation.answers` for the batches of a split."""

    def __init__(self):
        self._batches: list[dict[str, np.ndarray]] = []
        self._hosts = 1

    def expect(self, context: tf.distribute.InputContext) -> None:
        """Records the number of hosts that read the split."""
        self._hosts = context.num_input_pipelines

    def add(self, batch: dict[str, np.ndarray]) -> None:
        """Adds the answers for a global batch, (B,) each, ordered by host."""
        self._batches.append(batch)

    @property
    def right(self) -> np.ndarray:
        """Whether the answer is correct, for each readable, labelled image, (n,) bool."""
        label, predicted, counts = map(self._all, ("label", "predicted", "counts"))
        return (label == predicted)[counts.astype(bool)]

    def of(self, split: datasets.Split, class_names: tuple[str, ...]) -> predictions.Predictions:
        """Returns the answers for the readable, labelled images of `split` evaluated so far.

        Args:
            split: The split, whose ids are read.
            class_names: The names of the classes; if empty, numbers are used.
        """
        ids, _ = split.labels()
        label, predicted, confidence = (
            self._in_order(split, name) for name in ("label", "predicted", "confidence")
        )
        counts = self._in_order(split, "counts").astype(bool)
        names = class_names or tuple(map(str, range(1 + int(max(label.max(), predicted.max())))))
        return predictions.Predictions(
            ids[counts], label[counts], predicted[counts], confidence[counts], names
        )

    def _all(self, name: str) -> np.ndarray:
        return np.concatenate([batch[name] for batch in self._batches])

    def _in_order(self, split: datasets.Split, name: str) -> np.ndarray:
        """Returns (N,): the answers for all images of a split, 0 for those not evaluated."""
        by_host = np.stack([batch[name] for batch in self._batches]).reshape(
            len(self._batches), self._hosts, -1
        )
        found = np.zeros(split.num_examples, by_host.dtype)
        for host in range(self._hosts):
            positions = np.array(split.shard_positions((host, self._hosts)), np.int64)
            values = by_host[:, host].reshape(-1)[: len(positions)]  # padding follows
            found[positions[: len(values)]] = values
        return found
