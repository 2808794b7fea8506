"""Allows one process at a time in a run's folder, because two would overwrite its files."""

from __future__ import annotations

import json
import os
import socket
from typing import Self

import filelock
from etils import epath

from simclrv2_tf import files
from simclrv2_tf.experiments.directory import RunError
from simclrv2_tf.experiments.record import now


class Owner:
    """Locks a run's folder for this process, as a context manager.

    A lock of the file system ends with its process, so a run that was killed on this host can
    resume immediately. Such locks may not reach other hosts. For these there is `owner.json`: a
    folder with the file of another host's process is an error unless `take_over`.

    Folders on remote file systems such as `gs://`, which have no locks, are not locked.

    Args:
        folder: The run's folder.
        take_over: Whether to take the folder from a process of another host that no longer runs.

    Raises:
        RunError: another process owns the folder.
    """

    def __init__(self, folder: epath.Path, take_over: bool = False):
        self._folder, self._take_over = folder, take_over
        self._note = folder / "owner.json"
        self._lock = filelock.FileLock(str(folder / ".owner.lock"), thread_local=False)
        self._local = "://" not in str(folder)

    def __enter__(self) -> Self:
        if not self._local:
            return self
        parents = (self._folder, *self._folder.parents)
        self._made = [path for path in parents if not path.exists()]
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(blocking=False)
        except filelock.Timeout:
            raise self._refusal("which is running") from None
        except (
            NotImplementedError
        ):  # a file system without locks: only `owner.json` protects the folder
            pass
        held = self._held()
        if held and held.get("host") != socket.gethostname() and not self._take_over:
            self._lock.release()
            raise self._refusal(
                "which may be running on that host. Check that host; if the process has ended, add "
                "--take_over"
            )
        note = {"host": socket.gethostname(), "process": os.getpid(), "since": now()}
        files.write_text(self._note, files.to_json(note))
        return self

    def __exit__(self, *_) -> None:
        if self._local:
            self._note.unlink(missing_ok=True)
            self._lock.release()
            lock = epath.Path(self._lock.lock_file)
            # A rejected run leaves no files.
            if self._made and all(path == lock for path in self._folder.iterdir()):
                lock.unlink(missing_ok=True)
                for path in self._made:
                    if not list(path.iterdir()):
                        path.rmdir()

    def _held(self) -> dict | None:
        try:
            held = json.loads(self._note.read_text())
        except (OSError, ValueError):
            return None
        return held if isinstance(held, dict) else None

    def _refusal(self, why: str) -> RunError:
        held = self._held() or {}
        holder = (
            f"process {held.get('process', '?')} on {held.get('host', 'this host')}, since "
            f"{held.get('since', 'an unknown time')}"
        )
        return RunError(
            f"`model_dir` must not be in use. Received: model_dir={self._folder}, owned by "
            f"{holder}, {why}; the folder was not changed."
        )
