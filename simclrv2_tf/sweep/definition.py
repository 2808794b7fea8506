"""The definition of a sweep: common flags, variants, grid, seeds and comparisons."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from simclrv2_tf.config import command_line, flag_options
from simclrv2_tf.config.config import run_folder
from simclrv2_tf.config.other_names import OTHER_NAMES
from simclrv2_tf.config.recipes import expand_flagfiles
from simclrv2_tf.options import ConfigError, Option

# The sweep's own flags; --output is an alias of `model_dir`.
OWN = ("seeds", "jobs", "model_dir", "compare_to", "metrics", "x_axis")
FAMILIES = ("grid", "variant")
VARIANT = "variant"
NONE = "none"  # an unset value, or a dimension that a setting lacks

# Flags that the sweep sets for each cell, and advice.
_FIXED = {
    "model_dir": "each cell has its own folder in --output",
    "mode": "each cell trains and evaluates",
    "eval_name": "each cell has one evaluation",
    "seed": "give --seeds=0,1,2",
}


@dataclasses.dataclass(frozen=True)
class Definition:
    """A sweep, after the checks that need no cells.

    Attributes:
        flags: Flags of all cells, with `--flagfile=...` as given.
        variants: Flags by the variant's name; may be empty.
        grid: The texts of each option's values, by the option: `FLAG`, `STAGE.FLAG` or `flagfile`.
        seeds: The seeds.
        jobs: Number of cells to run in parallel.
        folder: Folder of the sweep.
        compare_to: Comparisons, each the values of some dimensions by name.
        metrics: Metrics in tables; if empty, chosen from the runs' metrics.
        x_axis: The dimension on the figure's x axis.
        dry_run: Whether to only check and print the cells.
    """

    flags: tuple[str, ...]
    variants: Mapping[str, tuple[str, ...]]
    grid: Mapping[str, tuple[str, ...]]
    seeds: tuple[int, ...]
    jobs: int
    folder: str
    compare_to: tuple[Mapping[str, str], ...]
    metrics: tuple[str, ...]
    x_axis: str | None
    dry_run: bool

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The dimensions of its settings, except for those from other sweeps."""
        return (*([VARIANT] if self.variants else []), *self.grid)


def make(values: Mapping[str, str], flags: Sequence[str], name: str = "") -> Definition:
    """Reads a sweep.

    Args:
        values: The sweep's own flags, by name: `OWN`, `grid.FLAG` and `variant.NAME`.
        flags: Flags of all cells, each as one string.
        name: Name of the recipe, for the default folder.

    Raises:
        ConfigError: names every flag that cannot be read, or is not allowed for cells.
    """
    errors: list[str] = []
    dry_run, kept = _dry_run(flags)
    variants, grid = {}, {}
    for flag, text in values.items():
        family, dot, what = flag.partition(".")
        if dot and family == VARIANT:
            variants[what] = _variant(what, text, errors)
        elif dot:
            # An alias of a flag, such as lr, stands for the flag.
            stage, stop, last = what.rpartition(".")
            what = f"{stage}{stop}{OTHER_NAMES.get(last, last)}"
            grid[what] = _grid_values(what, text, errors)
    _check_fixed(kept, "for all cells", errors)
    for variant, own in variants.items():
        _check_fixed(own, f"in variant {variant}", errors)
    _check_fixed([f"--{flag}=" for flag in grid], "in the grid", errors)
    seeds = _whole_numbers("seeds", values.get("seeds", "0"), 0, errors)
    jobs = _whole_numbers("jobs", values.get("jobs", "1"), 1, errors)
    if len(jobs) != 1:
        errors.append(f"`jobs` must be one whole number. Received: jobs={values.get('jobs')}")
    compare_to = _comparisons(values.get("compare_to"), errors)
    metrics = _names("metrics", values.get("metrics"), errors)
    folder = values.get("model_dir")
    if folder is not None and not folder.strip():
        errors.append("`output` must be the folder of the sweep. Received: output=")
    if errors:
        raise ConfigError(dict.fromkeys(errors))
    return Definition(
        tuple(kept),
        variants,
        grid,
        seeds,
        jobs[0],
        folder or run_folder(f"{name}-sweep"),
        compare_to,
        metrics,
        values.get("x_axis") or None,
        dry_run,
    )


def canonical(option: Option | None, text: str) -> str:
    """Returns one text per value: 0.1 for 1e-1, True for true, `none` for an unset option.

    Args:
        option: The option; None for values without an option, such as recipes.
        text: The text as given.
    """
    value: Any = text if option is None else option.parse(text)
    if value is None or value == "":
        return NONE
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def option_of(name: str) -> Option | None:
    """Returns the option of a grid's dimension: FLAG or STAGE.FLAG."""
    return flag_options().get(name.rpartition(".")[2])


def given(flags: Sequence[str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Returns the values of a cell's flags and flag files, by option, and by stage and option.

    `Config` reports their problems.
    """
    expanded, _, _ = expand_flagfiles(in_order(flags), [])
    return command_line.read(expanded, flag_options(), [])


def in_order(flags: Sequence[str]) -> list[str]:
    """Returns `flags` with flag files first, so that direct flags win."""
    return sorted(flags, key=lambda flag: not _is_file(flag))


def flag_name(flag: str) -> str:
    """Returns the name in `--name=value`, with aliases resolved."""
    name = flag.lstrip("-").partition("=")[0]
    return OTHER_NAMES.get(name, name)


def _with_own_name(flag: str) -> str:
    """Resolves aliases: `--learning_rate=1` for `--lr=1`."""
    name, equals, value = flag.lstrip("-").partition("=")
    return f"--{OTHER_NAMES[name]}{equals}{value}" if name in OTHER_NAMES else flag


def _is_file(flag: str) -> bool:
    return flag_name(flag) == "flagfile"


def _dry_run(flags: Sequence[str]) -> tuple[bool, list[str]]:
    """Returns whether a dry run is requested, and the other flags."""
    own = [flag for flag in flags if flag_name(flag) in ("dry_run", "nodry_run")]
    found, _ = command_line.read(own, flag_options(), [])
    return found.get("dry_run") is True, [flag for flag in flags if flag not in own]


def _variant(name: str, text: str, errors: list[str]) -> tuple[str, ...]:
    received = f"Received: variant.{name}={text}"
    if not re.fullmatch(r"[\w+.@-]+", name) or name == NONE:
        errors.append(
            "The name of a variant must consist of letters, digits, '_', '-', '+', '.' and '@', "
            f"and not be {NONE}. {received}"
        )
    try:
        flags = tuple(shlex.split(text))
    except ValueError as error:
        errors.append(f"The flags of a variant must be quoted as in a shell ({error}). {received}")
        return ()
    if not all(flag.startswith("-") for flag in flags):
        errors.append(f"A variant must consist of flags, each as --name=value. {received}")
    return tuple(map(_with_own_name, flags))


def _grid_values(name: str, text: str, errors: list[str]) -> tuple[str, ...]:
    option, received = option_of(name), f"Received: grid.{name}={text}"
    if not text.strip():
        errors.append(f"`grid.{name}` must list one or more values. {received}")
        return ()
    if option is None and name != "flagfile":
        last = name.rpartition(".")[2]
        hint = command_line.suggestion(last, flag_options())
        errors.append(f"Unknown flag `--{last}` in the grid.{hint} {received}")
        return ()
    if option is not None and option.many and ";" not in text and "," in text:
        errors.append(
            f"`grid.{name}` must have semicolons between its values, because each may be a list: "
            f"--grid.{name}='{text.replace(',', ';')}' has {text.count(',') + 1} values, "
            f"--{name}={text} is the same list in every cell. {received}"
        )
        return ()
    separator = ";" if ";" in text or (option is not None and option.many) else ","
    values = tuple(value.strip() for value in text.split(separator))
    shown = [canonical(option, value) for value in values]
    if len({*shown}) < len(shown):
        errors.append(f"`grid.{name}` must not repeat a value. {received}")
    return values


def _check_fixed(flags: Sequence[str], where: str, errors: list[str]) -> None:
    for flag in flags:
        name = flag_name(flag)
        if name in _FIXED:
            errors.append(f"`{name}` must be left out {where}: {_FIXED[name]}. Received: {flag}")
        elif name.partition(".")[0] in FAMILIES or name in OWN:
            errors.append(
                f"`{name}` must be given on the command line or in the sweep's recipe itself. "
                f"Received: {flag} {where}"
            )


def _whole_numbers(name: str, text: str, least: int, errors: list[str]) -> tuple[int, ...]:
    try:
        found = tuple(int(value) for value in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < least or len({*found}) < len(found):
        errors.append(
            f"`{name}` must be whole numbers of at least {least}, separated by commas, without "
            f"duplicates. Received: {name}={text}"
        )
        return (least,)
    return found


def _names(name: str, text: str | None, errors: list[str]) -> tuple[str, ...]:
    if text is None:
        return ()
    found = tuple(part.strip() for part in text.split(","))
    if not all(found) or len({*found}) < len(found):
        errors.append(
            f"`{name}` must be names, separated by commas, without duplicates. "
            f"Received: {name}={text}"
        )
    return found


def _comparisons(text: str | None, errors: list[str]) -> tuple[dict[str, str], ...]:
    """Reads `NAME=VALUE,NAME=VALUE;...`; a comma that no `NAME=` follows is part of the value."""
    if text is None:
        return ()
    found = []
    for comparison in text.split(";"):
        parts = [part.partition("=") for part in re.split(r",(?=[\w.@]+=)", comparison)]
        values = {
            name.strip(): canonical(option_of(name.strip()), value.strip())
            for name, _, value in parts
        }
        if not all(equals for _, equals, _ in parts) or len(values) < len(parts):
            errors.append(
                "`compare_to` must be NAME=VALUE, several separated by commas, such as "
                f"variant=nt_xent or stage=supervised. Received: compare_to={text}"
            )
        found.append(values)
    return tuple(found)
