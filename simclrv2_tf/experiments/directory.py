"""The folder of a run: its owner, the options and data of the run, and whether it has ended.

model_dir/
  config.json              every option of the run
  run.json                 data, weights and teacher of the run, and its sessions
  skipped_images.csv       files that are skipped, or used without a label, and the reasons
  labelled_examples.txt    the examples whose labels it uses, if these are a subset
  checkpoints/             weights, optimizer and step, by variable path; the newest are kept
  logs/                    TensorBoard
  history.csv              the metrics and the seconds of each epoch
  learning_curves.png      (and .svg, .csv) plots of the history, in a run of one stage
  views.png                augmented views of pretraining
  representations.npz      representations of some evaluation images, of pretraining: `samples`
  near_duplicates.npz      evaluation images that look like training images: `duplicates`
  encoder.keras            (and head, classifier) the final networks, for Keras
  image_classifier.keras   the network of a labelled stage, from images to logits
  labels.txt, inputs.json  class names; the side and the resizing of the images
  hub/STEP/                the SavedModel, with its model card; other formats: `export`
  result.json              the evaluation
  report.html              all results on one page: `report_page`
  calibration.json         (and .png, .csv) how reliable the classifier's confidence is
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etils import epath

from simclrv2_tf import checkpoint_files, files
from simclrv2_tf.contents import KERAS_FILES
from simclrv2_tf.errors import UserError
from simclrv2_tf.experiments import longer, plan, record
from simclrv2_tf.options import ConfigError, of

if TYPE_CHECKING:
    from simclrv2_tf.config import Config


# The options, apart from the network's, that an evaluation's numbers depend on.
_OF_EVALUATION = ("eval_ema", "eval_split", "eval_steps")


class RunError(UserError):
    """Raised for a run that cannot start as requested."""


class LongerError(RunError):
    """Raised if a finished run is to train longer; the message ends with a command for it.

    Args:
        reason: As in `longer.reason`.
        changes: As in `longer.changes`.
        command: A command line, to which the flags of the changes are added.
    """

    def __init__(self, reason: str, changes: Mapping[str, Any], command: Sequence[str] = ()):
        self.reason, self.changes = reason, changes
        flags = [f"--{name}={value}" for name, value in changes.items()]
        super().__init__(f"{reason} {shlex.join([*command, *flags])}")


class RunDirectory:
    """The folder of one run.

    Args:
        config: The run's options; `model_dir` is the folder, `eval_name` names its results.

    Attributes:
        path: The folder.
        options, checkpoints, history, labelled_examples, skipped, result: Files and folders in it.
        record: Its `run.json`.
    """

    def __init__(self, config: Config):
        self.config = config
        self.path = epath.Path(config.model_dir)
        self.options = self.path / "config.json"
        self.checkpoints = self.path / "checkpoints"
        self.history = self.path / "history.csv"
        self.labelled_examples = self.path / "labelled_examples.txt"
        self.skipped = self.path / "skipped_images.csv"
        self.result = self.named("result.json")
        self.record = record.RunRecord(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def logs(self, kind: str) -> epath.Path:
        """Returns a folder of TensorBoard's files, such as `train`."""
        return self.path / "logs" / kind

    @property
    def evaluation_logs(self) -> epath.Path:
        """The folder of the evaluation's TensorBoard files: `eval`, with the evaluation's name."""
        name = self.config.eval_name
        return self.logs("eval" + (f"_{name}" if name else ""))

    def named(self, name: str) -> epath.Path:
        """Returns a file of the evaluation, whose name includes the evaluation's name."""
        stem, dot, suffix = name.partition(".")
        named = f"_{self.config.eval_name}" if self.config.eval_name else ""
        return self.path / f"{stem}{named}{dot}{suffix}"

    def check(self) -> None:
        """Checks that the folder is new, or holds the run that `config` resumes.

        Raises:
            LongerError: the folder holds a finished run, and `config` describes a longer one.
            RunError: the folder holds another run, or other files.
        """
        earlier = self.earlier()
        if earlier is None:
            return
        config = self.config
        incidental = {name for name, option in of(type(config)).items() if option.incidental}
        # With several stages, the later ones were trained on the network chosen then.
        if config.mode == "eval" and config.train_mode not in plan.RUNS:
            incidental.add("eval_ema")
        differing = [
            field.name
            for field in dataclasses.fields(config)
            if field.name not in incidental
            and getattr(earlier, field.name) != getattr(config, field.name)
        ]
        if config.mode == "eval" and not config.eval_name and not differing:
            self._check_evaluation(earlier)
        if config.mode != "eval" and self._trained():
            if changes := longer.changes(earlier, config, differing):
                raise LongerError(longer.reason(earlier, config), changes)
        if differing:
            differences = [
                f"{name}={getattr(earlier, name)} in the folder, {getattr(config, name)} here"
                for name in differing
            ]
            raise RunError(
                f"`model_dir` must be new or hold the same run. Received: model_dir={self}, which "
                f"holds another run ({'; '.join(differences)}). Choose another --model_dir; that "
                "folder was not changed."
            )

    def _trained(self) -> bool:
        """Whether training of the run in the folder has finished."""
        several = self.config.train_mode in plan.RUNS
        return (self.result if several else self.path / KERAS_FILES[0]).exists()

    def _check_evaluation(self, earlier: Config) -> None:
        """Checks that an evaluation without a name is the run's own, whose files it overwrites."""
        others = [
            f"{name}={getattr(self.config, name)}"
            for name in _OF_EVALUATION
            if getattr(self.config, name) != getattr(earlier, name)
        ]
        if others:
            example = "ema" if others == ["eval_ema=True"] else "other"
            raise RunError(
                "`eval_name` must be given for an evaluation that differs from the run's own, such "
                f"as --eval_name={example}, so that the run's result.json is kept. "
                f"Received: {', '.join(others)}"
            )

    def earlier(self) -> Config | None:
        """Returns the options of the run in the folder; None if there is no run.

        Raises:
            RunError: the options cannot be read.
        """
        if not self.options.exists():
            return None
        try:
            return type(self.config).from_json(self.options.read_text())
        except ConfigError as error:
            raise RunError(
                f"{self.options} cannot be read as a run's options ({error.errors[0]}). Choose "
                "another --model_dir, or move that file away; the folder was not changed."
            ) from None

    def claim(self) -> None:
        """Claims the folder for the run: writes the run's options to `config.json`.

        Raises:
            RunError: as for `check`.
        """
        self.check()
        self.path.mkdir(parents=True, exist_ok=True)
        files.write_text(self.options, self.config.to_json())

    def check_made_of(self, made_of: dict) -> None:
        """Checks that the run in the folder, if there is one, has the same data, weights and
        teacher.

        Raises:
            RunError: the data, the starting weights or the teacher have changed.
        """
        held = self.record.made_of()
        begun = self.result.exists() or checkpoint_files.numbered(self.checkpoints)
        if held is None or not begun:
            return
        if changed := record.differences(held, made_of):
            raise RunError(
                f"The data of a run must not change. Received: model_dir={self}, whose data have "
                f"changed: {'; '.join(changed)}. Restore them, or choose another --model_dir to "
                "train on the changed data; the folder was not changed."
            )
        if any(held.get(name) != made_of.get(name) for name in ("weights", "teacher")):
            given = {"checkpoint": self.config.checkpoint, "teacher": self.config.teacher}
            flags = ", ".join(f"--{name}={path}" for name, path in given.items() if path)
            raise RunError(
                f"{self} holds a run that started from other weights than the current "
                f"{flags or 'random weights'}. Choose another --model_dir, or remove that folder "
                "to start over."
            )

    def begin(self, made_of: dict, session: dict) -> list[str]:
        """Claims the folder for a run that starts or resumes.

        Returns:
            Descriptions of the differences from the last session.
        """
        earlier = self.earlier() if self.result.exists() else None
        if earlier is not None:
            formats = self.config.export_formats
            if dataclasses.replace(earlier, export_formats=formats) != self.config:
                self.result.unlink()  # from another evaluation, until this one has ended
        self.claim()
        return self.record.begin(made_of, session)

    def finished(self, total_steps: int) -> dict | None:
        """Returns the result of this run if it has ended, at its last step or stopped early."""
        if self.config.mode != "train_then_eval" or not self.result.exists():
            return None
        if self.earlier() != self.config:
            return None
        try:
            values = json.loads(self.result.read_text())
        except ValueError:  # evaluate it again
            return None
        ends = (total_steps, values.get("stopped_step", total_steps))
        return values if values.get("global_step") in ends else None
