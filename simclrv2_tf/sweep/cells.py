"""The cells of a sweep: their command lines and folders, all checked before the first starts."""

from __future__ import annotations

import dataclasses
import itertools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from simclrv2_tf.config import Config, command_line
from simclrv2_tf.errors import UserErrors
from simclrv2_tf.experiments import early, plan
from simclrv2_tf.options import ConfigError
from simclrv2_tf.sweep import earlier
from simclrv2_tf.sweep.definition import (
    NONE,
    VARIANT,
    Definition,
    canonical,
    flag_name,
    given,
    in_order,
    option_of,
)

_LONGEST_NAME = 200  # bytes; a file system takes 255, and the log has a suffix
STAGE, FRACTION = "stage", "fraction"


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """One run of a sweep.

    Attributes:
        setting: The value of each dimension, as text.
        seed: The seed.
        folder: The run's folder.
        flags: The command line of `simclrv2_tf.run`.
        config: The run's options.
    """

    setting: Mapping[str, str]
    seed: int
    folder: str
    flags: tuple[str, ...]
    config: Config

    @property
    def in_words(self) -> str:
        """The setting and seed, such as "learning_rate=0.1, seed 0"."""
        return ", ".join([*(f"{k}={v}" for k, v in self.setting.items()), f"seed {self.seed}"])

    @property
    def command(self) -> str:
        """The command line that runs the cell on its own."""
        return shlex.join(["python", "-m", "simclrv2_tf.run", *self.flags])


def make(definition: Definition) -> list[Cell]:
    """Returns the cells of a sweep, ordered by seed.

    Raises:
        ConfigError: options of cells are wrong, two cells are the same run or share a folder, or a
        comparison has no counterpart; each problem is reported once. SweepError: a sweep that cells
        start from lacks the matching cells. RunError: a cell's folder holds another run.
        DatasetError: a folder of images is missing.
    """
    found: list[Cell] = []
    errors: list[str] = []
    for seed in definition.seeds:
        for setting, flags in _settings(definition):
            for added, starts in earlier.expanded(flags, seed):
                started = command_line.without(flags, [flag_name(flag) for flag in starts])
                try:
                    found.append(_cell(definition, {**setting, **added}, seed, (*started, *starts)))
                except UserErrors as error:
                    errors += error.errors
    errors = errors or _same(found) or _unknown(definition, found)
    if errors:
        raise ConfigError(dict.fromkeys(errors))
    return found


def dimensions(cells: Sequence[Cell]) -> list[str]:
    """Returns the dimensions of the cells' settings, in order."""
    return list(dict.fromkeys(name for cell in cells for name in cell.setting))


def folder_name(setting: Mapping[str, str]) -> str:
    """Returns the name of a setting's folder, such as `nt_xent,learning_rate=0.1`, or ""."""
    parts = [value if name == VARIANT else f"{name}={value}" for name, value in setting.items()]
    return re.sub(r"[^\w.=,@+-]+", "-", ",".join(parts))


def _settings(definition: Definition) -> Iterator[tuple[dict[str, str], tuple[str, ...]]]:
    """Yields the values of the dimensions, and the flags that they stand for."""
    variants = definition.variants or {"": ()}
    axes = [[(flag, value) for value in texts] for flag, texts in definition.grid.items()]
    for name, own in variants.items():
        for values in itertools.product(*axes):
            setting = {VARIANT: name} if definition.variants else {}
            setting |= {flag: canonical(option_of(flag), value) for flag, value in values}
            grid = [f"--{flag}={value}" for flag, value in values]
            yield setting, (*definition.flags, *own, *grid)


def _cell(
    definition: Definition, setting: Mapping[str, str], seed: int, flags: Sequence[str]
) -> Cell:
    name = folder_name(setting)
    if len(name.encode()) > _LONGEST_NAME:
        raise ConfigError(
            [
                f"A setting must have a name of at most {_LONGEST_NAME} bytes, the name of its "
                f"folder: give it as --variant.NAME='--flag=value ...'. Received: {name}"
            ]
        )
    folder = "/".join(filter(None, [definition.folder, name, f"seed_{seed}"]))
    values, _ = given(flags)
    own = [f"--seed={seed}"]
    own += [] if "label_seed" in values else [f"--label_seed={seed}"]
    command = ("--mode=train_then_eval", *in_order(flags), *own, f"--model_dir={folder}")
    config = Config.from_argv(["simclrv2-tf sweep", *command])
    early.check(config)
    return Cell(dict(setting), seed, folder, command, config)


def _same(cells: Sequence[Cell]) -> list[str]:
    """Returns the errors of cells that are the same run, or share a folder."""
    runs: dict[str, Cell] = {}
    folders: dict[str, Cell] = {}
    errors = []
    for cell in cells:
        other = folders.setdefault(cell.folder, cell)
        if other is not cell:
            errors.append(
                "Each cell must have its own folder; give settings with very similar values as "
                "--variant.NAME='--flag=value ...'. Received: "
                f"{other.in_words} and {cell.in_words}, both in {cell.folder}"
            )
            continue
        options = dataclasses.replace(cell.config, model_dir="one").to_json()
        other = runs.setdefault(options, cell)
        if other is not cell:
            errors.append(
                f"Cells must differ. Received: {other.in_words} and {cell.in_words}, with the same "
                "options"
            )
    return errors


def stage_dimensions(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """Returns the values of `stage` and `fraction` in the rows, if runs have several stages."""
    planned = [stage for cell in cells for stage in plan.plan_stages(cell.config)]
    if all(cell.config.train_mode not in plan.RUNS for cell in cells):
        return {}
    fractions = [fraction_in_words(stage.fraction) for stage in planned]
    return {
        STAGE: list(dict.fromkeys(stage.name for stage in planned)),
        FRACTION: list(dict.fromkeys(fractions)),
    }


def fraction_in_words(fraction: float | None) -> str:
    """Returns the share of the labels that a stage uses, as text: "0.01", or "none"."""
    return f"{fraction:g}" if fraction else NONE


def _unknown(definition: Definition, cells: Sequence[Cell]) -> list[str]:
    """Returns the errors of comparisons, and of the axis of the figure."""
    known = {
        name: list(dict.fromkeys(cell.setting.get(name, NONE) for cell in cells))
        for name in dimensions(cells)
    } | stage_dimensions(cells)
    errors = []
    for comparison in definition.compare_to:
        for name, value in comparison.items():
            if name not in known:
                errors.append(
                    "`compare_to` must name a dimension that varies: "
                    f"{', '.join(known) or 'none does'}. "
                    f"Received: {name}={value}"
                )
            elif value not in known[name]:
                errors.append(
                    f"`compare_to` must have a value of the sweep, {name} one of "
                    f"{', '.join(known[name])}. Received: {name}={value}"
                )
    axis = definition.x_axis
    if axis is not None and not _is_numeric(known.get(axis, ())):
        numeric = [name for name, values in known.items() if _is_numeric(values)]
        errors.append(
            "`x_axis` must name a dimension that varies and has numbers as values: "
            f"{', '.join(numeric) or 'none does'}. Received: x_axis={axis}"
        )
    return errors


def _is_numeric(values: Sequence[str]) -> bool:
    try:
        return len([float(value) for value in values if value != NONE]) > 1
    except ValueError:
        return False
