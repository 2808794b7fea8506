"""Checksums of the names, sizes and times of files, in milliseconds and without TensorFlow.

If a stamp is the same, so are the files. A different stamp proves nothing: a copy has other times.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Container, Iterable, Iterator

import simclrv2_tf
from simclrv2_tf.datasets.sources import PACKAGED, prepared_folder


def of_dataset(name: str, data_dir: str | None) -> str | None:
    """Returns the stamp of a data set's local files; None if they are remote or not found."""
    if name == PACKAGED:
        return of_path(os.path.join(os.path.dirname(simclrv2_tf.__file__), "data"))
    if name.startswith("folder:"):
        return of_path(os.path.expanduser(name.removeprefix("folder:")))
    return of_path(prepared_folder(name, data_dir))


def of_path(path: str, without: Container[str] = ()) -> str | None:
    """Returns the stamp of a file, of all files below a folder, or of a checkpoint's files.

    Args:
        path: The path; remote paths give None.
        without: Names of files and folders to ignore.
    """
    if "://" in path:
        return None
    if os.path.isdir(path):
        return _stamp(_below(path, without))
    folder, name = os.path.split(os.path.abspath(path))
    if not os.path.isdir(folder):
        return None
    files = (entry for entry in os.scandir(folder) if entry.name.startswith(name))
    return _stamp((entry.name, entry.stat()) for entry in files if entry.is_file())


def _below(folder: str, without: Container[str]) -> Iterator[tuple[str, os.stat_result]]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in without]
        for name in names:
            path = os.path.join(parent, name)
            if name not in without:
                yield os.path.relpath(path, folder), os.lstat(path)


def _stamp(files: Iterable[tuple[str, os.stat_result]]) -> str | None:
    found = sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in files)
    return hashlib.sha256(repr(found).encode()).hexdigest() if found else None
