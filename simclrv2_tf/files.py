"""Files and folders that are written whole or not at all."""

import contextlib
import json
from collections.abc import Iterator

from etils import epath


@contextlib.contextmanager
def whole(path: epath.Path) -> Iterator[epath.Path]:
    """Gives a path to write to; the file or folder there replaces `path` at the end."""
    unfinished = path.parent / f"unfinished-{path.name}"  # Keras wants the file's own suffix
    if unfinished.is_dir():
        unfinished.rmtree()
    yield unfinished
    if path.is_dir():
        path.rmtree()
    unfinished.replace(path)


def write_text(path: epath.Path, text: str) -> None:
    """Replaces a file, so that a kill leaves the old file or the new one."""
    with whole(path) as unfinished:
        unfinished.write_text(text)


def to_json(value: dict) -> str:
    """The text of the JSON files of a run."""
    return json.dumps(value, indent=2) + "\n"
