"""Cells that start from cells of another sweep: `--checkpoint=sweep:DIR`, `--teacher=sweep:DIR`."""

from __future__ import annotations

import itertools
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from simclrv2_tf.errors import UserError, raised_as
from simclrv2_tf.sweep.definition import given

FILE = "sweep.json"
PREFIX = "sweep:"
_OPTIONS = ("checkpoint", "teacher")


class SweepError(UserError):
    """Raised for a folder without a sweep, or with a sweep that does not fit."""


def read(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the content of a sweep's `sweep.json`.

    Raises:
        SweepError: there is no such file, or it cannot be read.
    """
    path = folder / FILE
    if not path.is_file():
        raise SweepError(
            f"{folder} must be the folder of a sweep, but has no {FILE}. Run that sweep first."
        )
    with raised_as(SweepError, f"{path} cannot be read", "Move it away, and rerun its sweep."):
        held = json.loads(path.read_text())
        if not all(isinstance(cell["setting"], dict) for cell in held["cells"]):
            raise TypeError("it has no cells")
        return held


def expanded(flags: Sequence[str], seed: int) -> Iterator[tuple[dict[str, str], tuple[str, ...]]]:
    """Expands a cell that starts from another sweep: one cell per setting of that sweep.

    Args:
        flags: Flags of the cell.
        seed: Its seed, also the seed of the cell that it starts from.

    Yields:
        Additional dimensions, such as `checkpoint.temperature`, and flags; a single empty pair if
        the cell starts from no sweep.

    Raises:
        SweepError: the folder holds no sweep, or the sweep has no finished cell with this seed.
    """
    values, _ = given(flags)
    sources = []
    for option in _OPTIONS:
        text = values.get(option)
        if isinstance(text, str) and text.startswith(PREFIX):
            folder = pathlib.Path(text.removeprefix(PREFIX)).expanduser()
            sources.append([(option, cell) for cell in _finished(folder, seed, option)])
    for chosen in itertools.product(*sources):
        added = {
            f"{option}.{name}": value
            for option, cell in chosen
            for name, value in cell["setting"].items()
        }
        yield added, tuple(f"--{option}={cell['folder']}" for option, cell in chosen)


def _finished(folder: pathlib.Path, seed: int, option: str) -> list[Mapping[str, Any]]:
    """Returns the cells of one seed, with folders relative to the current one."""
    found: list[Mapping[str, Any]] = []
    for cell in read(folder)["cells"]:
        if cell["seed"] != seed:
            continue
        path = folder / cell["folder"]
        if not (path / "result.json").exists():
            raise SweepError(
                f"`{option}` must be a sweep whose cells have finished. Received: "
                f"{option}={PREFIX}{folder}, whose cell {path} has not. Rerun that sweep first."
            )
        found.append({**cell, "folder": str(path)})
    if not found:
        raise SweepError(
            f"`{option}` must be a sweep with cells for each seed. Received: "
            f"{option}={PREFIX}{folder}, without seed {seed}"
        )
    return found
