"""Experiment trackers: Weights & Biases and MLflow, with their own Keras callbacks.

A stage is one run of the tracker, and a resumed stage resumes that run: `trackers.json` in the
folder of the stage holds its id. Project, server and credentials come from each tracker's own
environment variables and settings.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import functools
import importlib.util
import json
import math
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import keras
from etils import epath

from simclrv2_tf.errors import UserError, raised_as
from simclrv2_tf.files import write_text

FILE = "trackers.json"
PROJECT = "simclrv2_tf"
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


class TrackerError(UserError):
    """Raised for a tracker that cannot be used."""


@dataclasses.dataclass(frozen=True)
class Description:
    """A stage as shown in a tracker.

    Attributes:
        name: Name of the tracker's run: the stage's folder in `runs/`.
        group: Common name of a command's stages: the folder of the whole run.
        options: The stage's options by name, as JSON values.
    """

    name: str
    group: str
    options: Mapping[str, Any]


class Tracker(abc.ABC):
    """One run of a tracker.

    Attributes:
        package: The required package, also the name of the extra in `setup.py`.
    """

    package: ClassVar[str]

    @abc.abstractmethod
    def check(self) -> None:
        """Raises an exception if no run can be started, without credentials or server."""

    @abc.abstractmethod
    def start(self, about: Description, run_id: str | None) -> str:
        """Starts a run, or resumes the run `run_id`; returns its id."""

    @abc.abstractmethod
    def callback(self) -> keras.callbacks.Callback:
        """Returns the tracker's callback, which logs the metrics of every epoch."""

    @abc.abstractmethod
    def log_results(self, results: Mapping[str, float]) -> None:
        """Logs the metrics of the evaluation."""

    @abc.abstractmethod
    def end(self, failed: bool) -> None:
        """Ends the run, and waits until everything is written."""


class WeightsAndBiases(Tracker):
    """A run of Weights & Biases, whose client reads WANDB_PROJECT, WANDB_MODE and so on."""

    package = "wandb"

    def check(self):
        import wandb

        if wandb.setup().settings.mode == "online":
            wandb.login()  # asks for a key on a terminal, and raises an error elsewhere

    def start(self, about, run_id):
        import wandb

        run_id = run_id or uuid.uuid4().hex[:8]
        wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            group=os.environ.get("WANDB_RUN_GROUP", about.group),
            name=os.environ.get("WANDB_NAME", about.name),
            id=run_id,
            resume="allow",
            config=dict(about.options),
            allow_val_change=True,  # a resumed stage may train for longer
            reinit="finish_previous",
            # With captured output, progress bars would not find their terminal.
            settings=wandb.Settings(console=os.environ.get("WANDB_CONSOLE", "off")),
        )
        return run_id

    def callback(self):
        from wandb.integration.keras import WandbMetricsLogger

        return WandbMetricsLogger()

    def log_results(self, results):
        import wandb

        wandb.run.summary.update(dict(results))

    def end(self, failed):
        import wandb

        wandb.finish(exit_code=int(failed))


class MLflow(Tracker):
    """A run of MLflow, which reads MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME."""

    package = "mlflow"

    def __init__(self):
        self._resumed = False

    def check(self):
        import mlflow

        # Without a limit, MLflow takes minutes to report that no server responds.
        given = os.environ.get(_RETRIES)
        os.environ[_RETRIES] = given or "1"
        try:
            mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
        finally:
            if given is None:
                del os.environ[_RETRIES]

    def start(self, about, run_id):
        import mlflow

        self._resumed = run_id is not None
        run = mlflow.start_run(run_id=run_id, run_name=about.name, tags={"group": about.group})
        if not self._resumed:  # MLflow rejects another value of a parameter
            mlflow.log_params(dict(about.options))
        return run.info.run_id

    def callback(self):
        from mlflow.keras import MlflowCallback

        resumed = self._resumed

        class Callback(MlflowCallback):
            def on_train_begin(self, logs=None):
                if not resumed:  # the callback logs parameters
                    super().on_train_begin(logs)

        return Callback()

    def log_results(self, results):
        import mlflow

        mlflow.log_metrics(dict(results))

    def end(self, failed):
        import mlflow

        mlflow.flush_async_logging()
        mlflow.end_run("FAILED" if failed else "FINISHED")


TRACKERS: dict[str, type[Tracker]] = {row.package: row for row in (WeightsAndBiases, MLflow)}


def check(names: Sequence[str]) -> None:
    """Checks that runs of these trackers can be started; asks for credentials if possible.

    Raises:
        TrackerError: a package is not installed, credentials are missing, or no server responds.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise TrackerError(
                f"`report_to` with {name} needs its package, which is not installed: "
                f"pip install 'simclrv2-tf[{name}]'. Received: report_to={','.join(names)}"
            )
        _or_refused(name, names, TRACKERS[name]().check)


class Tracking:
    """The runs of one stage in some trackers.

    Args:
        names: Names in `TRACKERS`.
        folder: Folder of the stage, which must exist when `start` is called.
    """

    def __init__(self, names: Sequence[str], folder: epath.Path):
        self._trackers = {name: TRACKERS[name]() for name in names}
        self._file = folder / FILE
        self._started = False

    def start(self, about: Description) -> None:
        """Starts the runs, or resumes the runs of an earlier session of the stage.

        Raises:
            TrackerError: a tracker fails, or `trackers.json` is damaged; the stage has not trained
                yet.
        """
        if not self._trackers:
            return
        ids = self._kept_ids()
        self._started = True
        for name, tracker in self._trackers.items():
            start = functools.partial(tracker.start, about, ids.get(name))
            ids[name] = _or_refused(name, list(self._trackers), start)
            write_text(self._file, json.dumps(ids, indent=2) + "\n")

    def _kept_ids(self) -> dict[str, str]:
        if not self._file.exists():
            return {}
        advice = "Move that file away to start new runs of the trackers."
        with raised_as(TrackerError, f"{self._file} cannot be read", advice):
            held = json.loads(self._file.read_text())
            if not isinstance(held, dict):
                raise TypeError(f"it holds a {type(held).__name__}, not ids")
            return held

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """Returns a callback of each tracker; call `start` first."""
        return [tracker.callback() for tracker in self._trackers.values()]

    def log_results(self, result: Mapping[str, Any], name: str) -> None:
        """Logs the finite numbers of an evaluation, as `NAME/METRIC`."""
        if not self._started:
            return
        numbers = {
            f"{name}/{metric}": float(value)
            for metric, value in result.items()
            if isinstance(value, int | float) and math.isfinite(value)
        }
        for tracker in self._trackers.values():
            tracker.log_results(numbers)

    def end(self, failed: bool) -> None:
        """Ends the runs started by `start`."""
        with contextlib.ExitStack() as ends:  # a failure does not prevent the others from ending
            for tracker in self._trackers.values() if self._started else ():
                ends.callback(tracker.end, failed)


@contextlib.contextmanager
def tracking(names: Sequence[str], folder: epath.Path) -> Iterator[Tracking]:
    """Yields a `Tracking` whose runs end with the context, as failed if it raises."""
    tracked = Tracking(names, folder)
    failed = True
    try:
        yield tracked
        failed = False
    finally:
        tracked.end(failed)


def _or_refused(name: str, names: Sequence[str], call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # each client has its own errors
        reason = " ".join(str(error).split()).rstrip(".")
        raise TrackerError(
            f"`report_to` cannot use {name}: {reason}. Received: report_to={','.join(names)}"
        ) from error
