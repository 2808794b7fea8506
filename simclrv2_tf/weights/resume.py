"""Checkpoints of a run, from which it resumes exactly."""

import tempfile
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf
from etils import epath

from simclrv2_tf.weights.readers import CheckpointError, TensorFlowCheckpoint


class Checkpoints:
    """The checkpoints in one folder, newest last.

    Args:
        directory: Folder of the checkpoints; made with the first one.
        variables: All that the run has to remember, by a name that is the same in every process.
        keep: How many of the newest to keep.
        writes: Whether this process writes them. Of processes that train together, all must call
            `save`: reading the variables takes all of them.
    """

    def __init__(
        self,
        directory: str,
        variables: Mapping[str, keras.Variable],
        keep: int,
        writes: bool = True,
    ):
        self._variables = dict(variables)
        held = {name: variable.value for name, variable in self._variables.items()}
        self._checkpoint = tf.train.Checkpoint(variables=held)
        self._directory = directory
        # TensorFlow writes in every process; the files of the others go to a temporary folder.
        self._elsewhere = None if writes else tempfile.TemporaryDirectory()
        target = self._elsewhere.name if self._elsewhere else directory
        self._manager = tf.train.CheckpointManager(self._checkpoint, target, keep if writes else 1)

    def restore(self) -> bool:
        """Restores the newest checkpoint, every variable of it; False if there is none.

        Raises:
            CheckpointError: its variables are not those of this run.
        """
        latest = tf.train.latest_checkpoint(self._directory)
        if latest is None:
            return False
        source = TensorFlowCheckpoint(latest)
        stored = source.shapes()
        expected = {name: tuple(v.shape) for name, v in self._variables.items()}
        wrong = sorted(n for n in stored | expected if stored.get(n) != expected.get(n))
        if wrong:
            raise CheckpointError(
                f"{latest} holds another network or optimizer: {len(wrong)} variable(s) differ, "
                f"{wrong[0]} the first. Use another `model_dir`, or the flags of that run."
            )
        with source.reading():
            self._checkpoint.restore(latest).assert_consumed()
        return True

    def save(self, step: int) -> str:
        """Saves all variables as of `step`; returns the checkpoint's path.

        Raises:
            FloatingPointError: a weight is NaN or infinite. Nothing is written.
        """
        for name, variable in self._variables.items():
            is_float = variable.dtype.startswith(("float", "bfloat"))
            if is_float and not np.all(np.isfinite(variable.numpy())):
                raise FloatingPointError(f"{name} has a value that is NaN or infinite.")
        return self._manager.save(checkpoint_number=step)

    def keep_newest(self) -> None:
        """Removes all checkpoints but the newest, in the process that writes them."""
        *older, newest = self._manager.checkpoints or [None]
        if self._elsewhere or not older:
            return
        # The newest is named first: a kill in between leaves files that no list has.
        tf.compat.v1.train.update_checkpoint_state(self._directory, newest, [newest])
        removed = tuple(f"{epath.Path(prefix).name}." for prefix in older)
        for path in epath.Path(self._directory).iterdir():
            if path.name.startswith(removed):
                path.unlink()
