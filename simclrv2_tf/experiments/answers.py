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
    """Collects what `stages.Evaluation.answers` gives for the batches of a split, in its order."""

    def __init__(self):
        self._batches: list[dict[str, np.ndarray]] = []
        self._pipelines = 1

    def expect(self, context: tf.distribute.InputContext) -> None:
        """Notes by how many hosts the split is read."""
        self._pipelines = context.num_input_pipelines

    def add(self, batch: dict[str, np.ndarray]) -> None:
        """Adds the answers for a global batch, (B,) each, those of one host after the other."""
        self._batches.append(batch)

    def of(self, split: datasets.Split, class_names: tuple[str, ...]) -> predictions.Predictions:
        """The answers for the readable, labelled images of `split` as far as it was evaluated."""
        ids, _ = split.labels()
        found = {name: self._in_order(name)[: len(ids)] for name in self._batches[0]}
        counts = found["counts"].astype(bool)
        num_classes = len(class_names) or 1 + int(
            max(found["label"].max(), found["predicted"].max())
        )
        return predictions.Predictions(
            ids[: len(counts)][counts],
            found["label"][counts],
            found["predicted"][counts],
            found["confidence"][counts],
            class_names or tuple(map(str, range(num_classes))),
        )

    def _in_order(self, name: str) -> np.ndarray:
        # Of H hosts, host h reads the examples h, h + H, h + 2 H, ... of a split.
        values = np.stack([batch[name] for batch in self._batches])
        by_host = values.reshape(len(values), self._pipelines, -1)
        return by_host.transpose(0, 2, 1).reshape(-1)
