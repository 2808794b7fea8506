"""Atomic writes of files and folders."""

import contextlib
import csv
import errno
import io
import json
import math
import os
from collections.abc import Iterable, Iterator
from typing import Any

from etils import epath


@contextlib.contextmanager
def whole(path: epath.Path) -> Iterator[epath.Path]:
    """Yields a path to write to; the written file or folder replaces `path` at the end.

    The content is flushed to the disk before it replaces `path`. A file
    never replaces a folder.

    Raises:
        IsADirectoryError: A file was written, and `path` is a folder.
    """
    unfinished = path.parent / f"unfinished-{path.name}"  # Keras wants the file's own suffix
    if unfinished.is_dir():
        unfinished.rmtree()
    try:
        yield unfinished
    except BaseException:
        # Frees a full disk. A kill leaves the file, which the next writer replaces.
        with contextlib.suppress(OSError):
            unfinished.rmtree() if unfinished.is_dir() else unfinished.unlink(missing_ok=True)
        raise
    flush(unfinished)
    if path.is_dir():
        if not unfinished.is_dir():
            unfinished.unlink()
            raise IsADirectoryError(errno.EISDIR, "A file cannot replace a folder", str(path))
        path.rmtree()
    unfinished.replace(path)
    flush(path.parent)


def write_text(path: epath.Path, text: str) -> None:
    """Replaces a file; a kill leaves either the old or the new file."""
    with whole(path) as unfinished:
        unfinished.write_text(text)


def flush(*paths: epath.Path) -> None:
    """Flushes local files, or the entries of local folders, to the disk."""
    for path in paths:
        if "://" in os.fspath(path):
            continue  # the store's own guarantee
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:  # a folder, on a system that cannot open folders
            continue
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def csv_text(rows: Iterable[Iterable[str]]) -> str:
    """Returns the text of a table, one line per row: line breaks in a cell become spaces."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([" ".join(cell.splitlines()) for cell in row] for row in rows)
    return text.getvalue()


def to_json(value: dict) -> str:
    """Returns the text of a run's JSON file; NaN and infinite numbers become null."""
    return json.dumps(_valid(value), indent=2, allow_nan=False) + "\n"


def _valid(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _valid(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_valid(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
