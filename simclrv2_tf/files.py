"""Files that are written whole or not at all."""

from __future__ import annotations

import json

from etils import epath


def unfinished(path: epath.Path) -> epath.Path:
    """Where to write a file or folder before it is renamed to `path`."""
    return path.parent / f".{path.name}.unfinished"


def write_text(path: epath.Path, text: str) -> None:
    """Replaces a file, so that a kill leaves the old file or the new one."""
    unfinished(path).write_text(text)
    unfinished(path).replace(path)


def to_json(value: dict) -> str:
    """The text of the JSON files of a run."""
    return json.dumps(value, indent=2) + "\n"
