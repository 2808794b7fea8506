"""Identifies what a path holds: a run, a checkpoint, a SavedModel, or Keras files."""

from __future__ import annotations

import dataclasses
import functools
import os

from etils import epath

from simclrv2_tf import checkpoint_files

# The `.keras` files of the networks of a run or an import.
KERAS_FILES = ("encoder.keras", "head.keras", "classifier.keras", "predictor.keras")
IMAGE_CLASSIFIER = "image_classifier.keras"
# The folder of a run with the weights that validation selected.
BEST = "best"


@dataclasses.dataclass(frozen=True)
class Contents:
    """What `path` holds, on a local disk or on another file system of `tf.io.gfile`.

    Only looks at names: a file may still hold other weights, or be damaged.
    """

    path: str

    @functools.cached_property
    def kind(self) -> str | None:
        """The first of these kinds that the path is, or None.

        "checkpoint": the prefix of a checkpoint. "saved model": the folder of a SavedModel. "file":
        any other file. "stages": the folder of a run of several stages. "run": the folder of a run,
        or of one of its stages. "files": a folder of `.keras` files, such as an import's.
        "checkpoints": a folder of checkpoints, or one that has such a folder.
        """
        if self._is_prefix:
            return "checkpoint"
        if self._has("saved_model.pb"):
            return "saved model"
        if self._folder.is_file():
            return "file"
        if self._has("config.json"):
            several = self._has("pretrain", "config.json") and not self._has("checkpoints")
            return "stages" if several else "run"
        if self._has(KERAS_FILES[0]) or self._has(IMAGE_CLASSIFIER):
            return "files"
        return "checkpoints" if self.checkpoint or self.released else None

    @functools.cached_property
    def checkpoint(self) -> str | None:
        """The prefix of a run's best checkpoint if validation selected one, else of its newest
        (with several stages: of its pretraining), of a folder's newest, or the given prefix."""
        below = (
            self._folder / BEST,
            self._folder / "checkpoints",
            self._folder / "pretrain" / "checkpoints",
        )
        found = next(filter(None, map(checkpoint_files.newest, (*below, self._folder))), None)
        return found or (self.path if self._is_prefix else None)

    @functools.cached_property
    def released(self) -> str | None:
        """The prefix of variables in the file layouts of the reference.

        The path is a checkpoint's prefix, its folder, in which the file `checkpoint` may be
        missing, or a SavedModel's folder.
        """
        if self._is_prefix:
            return self.path
        if self._has("saved_model.pb"):
            return os.path.join(self.path, "variables", "variables")
        if not self._folder.is_dir():
            return None
        return checkpoint_files.newest(self._folder) or checkpoint_files.alone(self._folder)

    @functools.cached_property
    def saved_model(self) -> epath.Path | None:
        """The folder of the SavedModel: the path itself, or the newest export of a run."""
        if self._has("saved_model.pb"):
            return self._folder
        hub = self._folder / "hub"
        # Folders whose name is not a number are unfinished.
        exports = [f for f in hub.iterdir() if f.name.isdigit()] if hub.is_dir() else []
        exports = [folder for folder in exports if (folder / "saved_model.pb").exists()]
        return max(exports, key=lambda folder: int(folder.name), default=None)

    @functools.cached_property
    def keras_files(self) -> tuple[epath.Path, ...]:
        """The `.keras` files that together are one network.

        The files of a run (with several stages: of its pretraining), or the file itself.
        head.keras, classifier.keras and predictor.keras belong to the encoder.keras in their
        folder.
        """
        first = KERAS_FILES[0]
        for file in (self._folder / first, self._folder / "pretrain" / first, self._folder):
            if file.suffix == ".keras" and file.is_file():
                names = KERAS_FILES if file.name == first else (file.name,)
                return tuple(f for f in map(file.with_name, names) if f.exists())
        return ()

    @property
    def image_classifier(self) -> epath.Path | None:
        """The folder's image_classifier.keras."""
        return self._folder / IMAGE_CLASSIFIER if self._has(IMAGE_CLASSIFIER) else None

    @property
    def runs(self) -> list[str]:
        """Folders of networks one or two levels below, sorted: candidates for the intended run."""
        return [str(folder) for folder in self.below if (folder / KERAS_FILES[0]).exists()]

    @property
    def below(self) -> list[epath.Path]:
        """The folders one and two levels below, sorted."""
        first = _folders(self._folder)
        return sorted([*first, *(folder for each in first for folder in _folders(each))])

    @property
    def _folder(self) -> epath.Path:
        return epath.Path(self.path)

    @functools.cached_property
    def _is_prefix(self) -> bool:
        return epath.Path(self.path + ".index").exists()

    def _has(self, *names: str) -> bool:
        return self._folder.joinpath(*names).exists()


def _folders(folder: epath.Path) -> list[epath.Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
