"""Checkpoints of a run, from which it resumes exactly."""

import os
import tempfile
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf
from absl import logging
from etils import epath

from simclrv2_tf import checkpoint_files, files
from simclrv2_tf.weights.readers import CheckpointError, TensorFlowCheckpoint


class Checkpoints:
    """The checkpoints in one folder, newest last.

    Args:
        directory: Folder of the checkpoints; made with the first one.
        variables: The state of the run, by names that are the same in every process.
        progress: The state of an unfinished epoch, such as its metrics, and of validations, by
            name. Checkpoints without it can be restored too.
        keep: Number of newest checkpoints to keep.
        writes: Whether this process writes checkpoints. All processes that train together must call
            `save`, because reading the variables needs all of them.
    """

    def __init__(
        self,
        directory: str,
        variables: Mapping[str, keras.Variable],
        keep: int,
        writes: bool = True,
        progress: Mapping[str, keras.Variable] | None = None,
    ):
        self._variables, self._progress = dict(variables), dict(progress or {})
        every = self._variables | self._progress
        held = {name: variable.value for name, variable in every.items()}
        self._checkpoint = tf.train.Checkpoint(variables=held)
        self._directory, self._keep = epath.Path(directory), keep
        self._damaged: list[str] = []
        # TensorFlow writes in every process; other processes write to a temporary folder.
        self._elsewhere = None if writes else tempfile.TemporaryDirectory()

    def restore(self) -> bool:
        """Restores every variable of the newest checkpoint; returns False if there is none.

        Skips a damaged checkpoint with a warning, if an older one is intact.

        Raises:
            CheckpointError: its variables differ from this run's; all checkpoints are damaged; or
                the file `checkpoint` names one that is missing.
        """
        damaged: dict[str, CheckpointError] = {}
        for prefix in reversed(self._own()):
            source = TensorFlowCheckpoint(prefix)
            try:
                values = self._values(source)
            except DamagedError as error:
                damaged[prefix] = error
                continue
            for problem in damaged.values():
                logging.warning("%s Resuming from %s.", problem, prefix)
            self._damaged = list(damaged)
            every = self._variables | self._progress
            for name, value in values.items():
                every[name].assign(value)
            return True
        if damaged:
            raise next(iter(damaged.values()))
        if lost := checkpoint_files.named(self._directory):
            raise CheckpointError(
                f"The checkpoints of a run must stay in its folder. Received: {self._directory}, "
                f"in which {lost} and all others are missing. Restore them, or remove that folder "
                "to train from the beginning."
            )
        return False

    def _values(self, source: TensorFlowCheckpoint) -> dict[str, np.ndarray]:
        """Returns the values of an intact checkpoint of this run, by name."""
        try:
            stored = source.shapes()
            if not stored:
                raise CheckpointError(f"{source} holds no variables of a run.")
        except CheckpointError as error:
            raise DamagedError(str(error)) from error
        expected = {name: tuple(v.shape) for name, v in self._variables.items()}
        progress = {name: tuple(v.shape) for name, v in self._progress.items()}
        wrong = sorted(
            name
            for name in stored | expected
            if stored.get(name) != expected.get(name) and not name.startswith(PROGRESS)
        )
        if wrong:
            raise CheckpointError(
                f"{source} holds another network or optimizer: {len(wrong)} variable(s) differ, "
                f"such as {wrong[0]}. Use another `model_dir`, or the flags of that run."
            )
        names = [*expected, *(n for n in progress if stored.get(n) == progress[n])]
        try:
            return dict(zip(names, source.read(names), strict=True))
        except CheckpointError as error:
            raise DamagedError(str(error)) from error

    def save(self, step: int) -> str:
        """Saves all variables as of `step`; returns the checkpoint's path.

        Raises:
            FloatingPointError: a weight is NaN or infinite. Nothing is written.
        """
        for name, variable in self._variables.items():
            is_float = variable.dtype.startswith(("float", "bfloat"))
            if is_float and not np.all(np.isfinite(variable.numpy())):
                raise FloatingPointError(f"{name} has a value that is NaN or infinite.")
        folder = epath.Path(self._elsewhere.name) if self._elsewhere else self._directory
        folder.mkdir(parents=True, exist_ok=True)
        prefix = str(folder / f"{_NAME}{step}")
        while self._damaged:  # before another checkpoint of the same step is written
            if not self._elsewhere:
                checkpoint_files.set_aside(self._damaged[-1])
            self._damaged.pop()
        self._checkpoint.write(prefix)
        if not self._elsewhere:
            files.flush(*(path for path in folder.iterdir() if _belongs(path, prefix)))
            self._keep_newest(self._keep)
        return prefix

    def newest_step(self) -> int | None:
        """The step of the newest checkpoint; None if there is none."""
        prefixes = self._own()
        return _step(prefixes[-1]) if prefixes else None

    def remove_after(self, step: int) -> None:
        """Removes checkpoints of later steps, in the process that writes."""
        for prefix in self._own() if not self._elsewhere else ():
            if _step(prefix) > step:
                checkpoint_files.remove(prefix)

    def keep_newest(self) -> None:
        """Removes all checkpoints except the newest, in the process that writes."""
        if not self._elsewhere and self._own():
            self._keep_newest(1)

    def _own(self) -> list[str]:
        """The prefixes of this run's checkpoints, the newest last; ignores other files."""
        prefixes = checkpoint_files.numbered(self._directory)
        return [prefix for prefix in prefixes if os.path.basename(prefix).startswith(_NAME)]

    def _keep_newest(self, count: int) -> None:
        prefixes = self._own()
        # Writes the list of the newest first: a kill in between only leaves unlisted files.
        kept = prefixes[-count:]
        files.write_text(self._directory / checkpoint_files.STATE, checkpoint_files.state(kept))
        for prefix in prefixes[:-count]:
            checkpoint_files.remove(prefix)
        checkpoint_files.remove_unfinished(self._directory)


class DamagedError(CheckpointError):
    """Raised for a checkpoint that cannot be read completely."""


_NAME = "ckpt-"  # prefix of the names of checkpoints
PROGRESS = "progress/"  # prefix of the names of `progress`


def _step(prefix: str) -> int:
    return int(os.path.basename(prefix).removeprefix(_NAME))


def _belongs(path: epath.Path, prefix: str) -> bool:
    return path.name.startswith(f"{os.path.basename(prefix)}.")
