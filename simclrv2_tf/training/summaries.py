"""TensorBoard: the scalars of a stage, with one tag per metric.

The runs `train`, `validation` and `eval` of a stage have the same tags, so that TensorBoard draws
them in one chart. Measures of the representation are under `representation/`.
"""

from collections.abc import Mapping

import tensorflow as tf
from etils import epath

from simclrv2_tf.training.callbacks import EverySteps

_VALIDATED = "val_"
_OF_LABELS = "label_"  # prefix of the names of accuracies in `result.json`
# Pretraining's evaluation reports its online classifier.
_OF_PROBE = {"probe_accuracy": "top_1_accuracy"}
_REPRESENTATION = {
    "representation_rank": "rank",
    "representation_spread": "spread",
    "embedding_rank": "embedding_rank",
    "embedding_spread": "embedding_spread",
    "alignment": "alignment",
    "uniformity": "uniformity",
    "knn_top_1_accuracy": "knn_top_1_accuracy",
}


def tag(name: str) -> str:
    """Returns the tag of a metric from its name in logs or in `result.json`."""
    if name in _REPRESENTATION:
        return f"representation/{_REPRESENTATION[name]}"
    if name in _OF_PROBE:
        return _OF_PROBE[name]
    return name.removeprefix(_VALIDATED).removeprefix(_OF_LABELS)


def write(directory: epath.Path, metrics: Mapping[str, float], step: int) -> None:
    """Writes metrics of one step to a folder of TensorBoard files."""
    with tf.summary.create_file_writer(str(directory)).as_default():
        for name, value in metrics.items():
            tf.summary.scalar(tag(name), value, step=step)


class Summaries(EverySteps):
    """Writes scalars by global step, at each epoch's end and every `every_steps` (0: never).

    Place it after the callbacks that add to an epoch's logs.

    Args:
        directory: The folder, whose subfolders `train` and `validation` receive the files.
        every_steps: Steps between scalars.
    """

    def __init__(self, directory: epath.Path, every_steps: int):
        super().__init__(every_steps)
        self._directory = directory
        self._writers: dict[str, tf.summary.SummaryWriter] = {}

    def on_train_batch_end(self, batch, logs=None):
        # An epoch's own scalars have more metrics.
        if self.passed() and batch + 1 < self.params["steps"]:
            self._write(logs)

    def on_epoch_end(self, epoch, logs=None):
        self._write(logs)

    def on_train_end(self, logs=None):
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def _write(self, logs):
        for name, value in logs.items():
            run = "validation" if name.startswith(_VALIDATED) else "train"
            if run not in self._writers:
                self._writers[run] = tf.summary.create_file_writer(str(self._directory / run))
            with self._writers[run].as_default():
                tf.summary.scalar(tag(name), value, step=self.step)
