"""The checkpoints in a folder, by the names of their files.

TensorFlow's own functions treat a path as a pattern: if a folder's name has `[`, `*` or `?`,
`tf.train.latest_checkpoint` and every operation that reads checkpoints miss those in it.
"""

from __future__ import annotations

import functools
import os
import re
import tempfile

from etils import epath

STATE = "checkpoint"  # the file in which TensorFlow names the newest

_NUMBERED = re.compile(r"(.*-)?(\d+)")
_DAMAGED = ".damaged"
_PATTERN = re.compile(r"[*?\[\]\\]")


def numbered(folder: epath.Path) -> list[str]:
    """The prefixes of the checkpoints whose names end in a number, such as `ckpt-12`, in order."""
    found = []
    for name in _names(folder):
        match = _NUMBERED.fullmatch(name)
        if match:
            found.append((int(match[2]), name))
    return [str(folder / name) for _, name in sorted(found)]


def newest(folder: epath.Path) -> str | None:
    """The prefix of the newest checkpoint in `folder`; None if there is none or it is not known.

    The checkpoint with the highest number; without numbers, the one that the file `checkpoint`
    names.
    """
    if prefixes := numbered(folder):
        return prefixes[-1]
    name = named(folder)
    return str(folder / name) if name in _names(folder) else None


def alone(folder: epath.Path) -> str | None:
    """The prefix of the only checkpoint in `folder`, whatever its name; else None."""
    names = _names(folder)
    return str(folder / names[0]) if len(names) == 1 else None


def named(folder: epath.Path) -> str | None:
    """The newest checkpoint according to the file `checkpoint`; None if it names none."""
    try:
        text = (folder / STATE).read_text()
    except (OSError, UnicodeDecodeError):
        return None
    found = re.search(r'^model_checkpoint_path: "(.+)"$', text, re.MULTILINE)
    return os.path.basename(found[1]) if found else None


def state(prefixes: list[str]) -> str:
    """The content of the file `checkpoint` for these prefixes, the newest last."""
    names = [os.path.basename(prefix) for prefix in prefixes]
    lines = [f'model_checkpoint_path: "{names[-1]}"']
    lines += [f'all_model_checkpoint_paths: "{name}"' for name in names]
    return "\n".join(lines) + "\n"


def remove(prefix: str) -> None:
    """Removes the files of a checkpoint, the index first: without it the rest is ignored."""
    path = epath.Path(prefix)
    (path.parent / f"{path.name}.index").unlink(missing_ok=True)
    for file in list(path.parent.iterdir()):
        if file.name.startswith(f"{path.name}."):
            file.unlink()


def set_aside(prefix: str) -> None:
    """Renames the files of a damaged checkpoint, so that it is no longer found."""
    path = epath.Path(prefix)
    for file in list(path.parent.iterdir()):
        if file.name.startswith(f"{path.name}.") and not file.name.endswith(_DAMAGED):
            file.replace(file.parent / (file.name + _DAMAGED))


def remove_unfinished(folder: epath.Path) -> None:
    """Removes incomplete checkpoints `ckpt-...`, left by a kill or a full disk."""
    whole = {f"{name}." for name in _names(folder)}
    for path in list(folder.iterdir()):
        part = path.name.startswith("ckpt-") and not path.name.startswith(tuple(whole))
        if part and path.name.endswith("_temp") and path.is_dir():
            path.rmtree()
        elif part and ".data-" in path.name and not path.name.endswith(_DAMAGED):
            path.unlink()


def for_tensorflow(path: str) -> str:
    """Returns a path to the same file that TensorFlow does not treat as a pattern.

    If the path of a local file has one of the characters `*?[]` or a backslash, returns a link in a
    temporary folder, which lasts as long as the process; else `path` itself.
    """
    folder, name = os.path.split(path)
    return os.path.join(folder_for_tensorflow(folder), name)


def folder_for_tensorflow(folder: str) -> str:
    """Same as `for_tensorflow`, for a folder whose files TensorFlow reads or writes."""
    if "://" in folder or not _PATTERN.search(folder):
        return folder
    return _link(os.path.abspath(folder))


@functools.cache
def _links() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory()


@functools.cache
def _link(folder: str) -> str:
    parent = _links().name
    link = os.path.join(parent, str(len(os.listdir(parent))))
    os.symlink(folder, link, target_is_directory=True)
    return link


def _names(folder: epath.Path) -> list[str]:
    if not folder.is_dir():
        return []
    names = (path.name for path in folder.iterdir())
    return sorted(name.removesuffix(".index") for name in names if name.endswith(".index"))
