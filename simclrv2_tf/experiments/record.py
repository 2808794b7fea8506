"""`run.json`: the data and weights of a run, so that a rerun can check that they are unchanged.

```
{
  "made_of": {
    "data": {"main": {"name", "class_names", "splits": {NAME: {"examples", "fingerprint"}}},
             "unlabelled": ...},
    "weights": the fingerprint of the run's starting weights, or null,
    "teacher": the fingerprint of its teacher, if it has one
  },
  "sessions": [{"began", "ended", "command", "host", "process", "versions", "devices", "replicas",
                "precision", "onednn", "stopped": where and why training ended early, if it did}],
  "finished": {"identity", "outputs", "summary"}
}
```
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import socket
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etils import epath

import simclrv2_tf
from simclrv2_tf import environment, files
from simclrv2_tf.errors import UserError
from simclrv2_tf.experiments import stamps

if TYPE_CHECKING:
    from simclrv2_tf.config import Config
    from simclrv2_tf.datasets import ImageDataset, Split

# Files that do not come from training or evaluation, or that other commands write.
_NOT_OUTPUTS = ("run.json", "owner.json", ".owner.lock", "logs", "report.html")


class RecordError(UserError):
    """Raised for a `run.json` that cannot be read."""


class RunRecord:
    """The record of the run in one folder.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: epath.Path):
        self.folder = folder
        self.path = folder / "run.json"

    def read(self) -> dict:
        """The record; empty if there is none.

        Raises:
            RecordError: the file is not a record.
        """
        if not self.path.exists():
            return {}
        try:
            held = json.loads(self.path.read_text())
        except ValueError as error:
            held = error
        if not isinstance(held, dict) or not isinstance(held.get("made_of", {}), dict):
            raise RecordError(
                f"{self.path} cannot be read as a run's record. Remove that file to resume without "
                "its checks, or choose another --model_dir; the folder was not changed."
            )
        return held

    def made_of(self) -> dict | None:
        """The data and weights of the run; None if not recorded.

        Runs of an earlier version of this package have `start.json`, only for the weights.
        """
        if held := self.read().get("made_of"):
            return held
        earlier = self.folder / "start.json"
        return json.loads(earlier.read_text()) if earlier.exists() else None

    def begin(self, made_of: Mapping[str, Any], session: Mapping[str, Any]) -> list[str]:
        """Adds a session; returns descriptions of its differences from the last session."""
        held = self.read()
        sessions = held.get("sessions", [])
        changed = session_changes(sessions[-1], session) if sessions else []
        record = {"made_of": made_of, "sessions": [*sessions, dict(session)]}
        files.write_text(self.path, files.to_json(record))
        return changed

    def end(self, stopped: str | None = None) -> None:
        """Records when the last session ended, and where and why it stopped early, if it did."""
        held = self.read()
        if held.get("sessions"):
            held["sessions"][-1] |= {"ended": now()} | ({"stopped": stopped} if stopped else {})
            files.write_text(self.path, files.to_json(held))

    def finish(self, identity: str, summary: str) -> None:
        """Records that the run has finished, its outputs, and its last printed text."""
        finished = {"identity": identity, "outputs": self._outputs(), "summary": summary}
        files.write_text(self.path, files.to_json({**self.read(), "finished": finished}))

    def summary_of_finished(self, identity: str) -> str | None:
        """Returns the last text of this run; None if it has not finished or a file has changed."""
        found = self.read().get("finished")
        if not isinstance(found, dict) or found.get("identity") != identity:
            return None
        return found.get("summary") if found.get("outputs") == self._outputs() else None

    def _outputs(self) -> str | None:
        return stamps.of_path(str(self.folder), without=_NOT_OUTPUTS)


def identity(config: Config) -> str | None:
    """Returns a checksum of all inputs of a run's outputs; None if that needs TensorFlow.

    Covers the options, and the names, sizes and times of the files of data sets and weights. So
    equal runs can have different checksums, if a file was copied, but different runs never share
    one.
    """
    parts: list[Any] = [simclrv2_tf.__version__, config.to_json()]
    for name in filter(None, (config.dataset, config.unlabelled_dataset)):
        parts.append(stamps.of_dataset(name, config.data_dir))
    for path in filter(None, (config.checkpoint, config.teacher)):
        parts.append(stamps.of_path(path))
    if None in parts or "://" in config.model_dir:
        return None
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def of_data(data: ImageDataset, splits: Mapping[str, Split | None]) -> dict[str, Any]:
    """Returns the entry of `made_of` for a data set and the splits that a run uses."""
    return {
        "name": data.name,
        "class_names": list(data.class_names),
        "splits": {
            name: {"examples": split.num_examples, "fingerprint": split.fingerprint()}
            for name, split in splits.items()
            if split is not None
        },
    }


def differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describes the differences between two values of `made_of`; ignores missing entries."""
    found = []
    held = earlier.get("data") or {}
    for part, data in now["data"].items():
        before = held.get(part)
        if not before or not data:
            continue
        label = data["name"] if part == "main" else f"the {part} data {data['name']}"
        if before["class_names"] != data["class_names"]:
            found.append(_class_difference(label, before["class_names"], data["class_names"]))
        for name, split in data["splits"].items():
            then = before["splits"].get(name)
            if then and then["examples"] != split["examples"]:
                found.append(
                    f"{name} of {label} now has {split['examples']:,} images, {then['examples']:,} "
                    "before"
                )
            elif then and then["fingerprint"] != split["fingerprint"]:
                found.append(
                    f"{name} of {label} has the same number of images, {split['examples']:,}, but "
                    "their names, sizes or labels differ"
                )
    return found


def _class_difference(label: str, then: list[str], now: list[str]) -> str:
    if len(then) != len(now):
        return f"{label} now has {len(now)} classes, {len(then)} before"
    first = next(i for i, pair in enumerate(zip(then, now, strict=True)) if len({*pair}) == 2)
    return f"class {first} of {label} is now {now[first]!r}, {then[first]!r} before"


def session(replicas: int, precision: str, devices: list[str]) -> dict[str, Any]:
    """Returns the current session: its time, host, versions and devices."""
    return {
        "began": now(),
        "ended": None,
        "command": sys.argv,
        "host": socket.gethostname(),
        "process": os.getpid(),
        "versions": versions(),
        "devices": devices,
        "replicas": replicas,
        "precision": precision,
        "onednn": environment.onednn(),
        "tensorflow_said": environment.said_at_start(),
    }


def session_changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describes differences between two sessions that do not prevent resuming."""
    found = []
    before, after = then.get("versions", {}), now["versions"]
    for name in sorted(before | after):
        if before.get(name) != after.get(name):
            found.append(f"{name} {after.get(name)} (was {before.get(name)})")
    for name in ("devices", "replicas", "precision", "onednn", "command"):
        if name in then and then[name] != now[name]:
            found.append(f"{name} {_words(now[name])} (was {_words(then[name])})")
    return found


def versions() -> dict[str, str]:
    """Returns the versions of this package and of the packages that its numbers depend on."""
    import keras
    import numpy
    import tensorflow as tf

    return {
        "simclrv2_tf": simclrv2_tf.__version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": numpy.__version__,
    }


def now() -> str:
    """Returns the time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
