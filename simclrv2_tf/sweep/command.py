"""Runs a sweep: checks its cells, runs the unfinished ones, and writes the results."""

from __future__ import annotations

import contextlib
import pathlib
import signal
from collections.abc import Iterator, Mapping, Sequence

from etils import epath, epy

from simclrv2_tf import errors, files, signals
from simclrv2_tf.console.time_left import duration
from simclrv2_tf.experiments import early
from simclrv2_tf.experiments.owner import Owner
from simclrv2_tf.sweep import cells as cells_lib
from simclrv2_tf.sweep import earlier, processes, shares
from simclrv2_tf.sweep.cells import Cell
from simclrv2_tf.sweep.definition import Definition, given
from simclrv2_tf.sweep.earlier import SweepError
from simclrv2_tf.sweep.time_left import TimeLeft

with epy.lazy_imports():
    from simclrv2_tf.sweep import results

# Flags that do not change results: a sweep may resume without them.
_NO_PART = ("debug", "take_over", "verbose")


class FailedError(errors.UserError):
    """Raised if cells have failed."""

    exit_status = 1


def run(definition: Definition, command: str, program: Sequence[str] = processes.PROGRAM) -> None:
    """Runs the cells of a sweep that have not finished, and writes its results after each.

    Args:
        definition: The sweep.
        command: Its command line, for the record.
        program: The program that receives a cell's flags.

    Raises:
        ConfigError, SweepError, RunError, DatasetError: the sweep cannot start; nothing on disk was
        changed. FailedError: cells have failed; the others have finished.
        Interrupted: a signal has stopped it; the cells that were running have been stopped.
    """
    shares.check_jobs(definition.jobs)
    found = cells_lib.make(definition)
    _check_folder(definition)
    for line in _plan(definition, found):
        print(line, flush=True)
    if definition.dry_run:
        print(*(cell.command for cell in found), sep="\n", flush=True)
        return
    with Owner(epath.Path(definition.folder)), _terminated_as_interrupted():
        _write_plan(definition, found)
        _run(definition, found, command, program)


def _run(
    definition: Definition, found: Sequence[Cell], command: str, program: Sequence[str]
) -> None:
    finished = [cell for cell in found if early.summary_of_finished(cell.config) is not None]
    waiting = [cell for cell in found if cell not in finished]
    failed: dict[Cell, str] = {}
    if finished:
        print(f"Finished before: {len(finished)} of {len(found)} cells.", flush=True)
    left = TimeLeft(definition.jobs)

    def write() -> list[str]:
        in_order = [cell for cell in found if cell in finished]
        return results.write(definition, found, in_order, failed, command)

    def began(running: processes.Running) -> None:
        place = found.index(running.cell) + 1
        print(
            f"[{place}/{len(found)}] {running.cell.in_words}: started, log in {running.log}\n"
            f"  {running.cell.command}",
            flush=True,
        )

    try:
        warnings = write()
        with contextlib.closing(processes.run(waiting, definition.jobs, began, program)) as endings:
            for ended, running in endings:
                place = found.index(ended.cell) + 1
                if ended.process.returncode:
                    failed[ended.cell] = ended.problem()
                    said = f"failed after {duration(ended.seconds)}: {failed[ended.cell]}"
                else:
                    finished.append(ended.cell)
                    left.ended(ended.cell, ended.seconds)
                    said = f"finished in {duration(ended.seconds)}"
                at_work = {each.cell: each.seconds for each in running}
                to_do = [c for c in waiting if not (c in finished or c in failed or c in at_work)]
                seconds = left.left(to_do, at_work)
                remaining = f"; about {duration(seconds)} left" if seconds else ""
                print(
                    f"[{place}/{len(found)}] {ended.cell.in_words}: {said}{remaining}", flush=True
                )
                warnings = write()
    except KeyboardInterrupt as interruption:
        raise _interrupted(
            getattr(interruption, "exit_status", 130),
            f"Stopped: {len(finished)} of {len(found)} cells have finished. Rerun the same command "
            "to resume; cells that had started resume from their last checkpoints.",
        ) from None
    _report(definition, found, failed, warnings)


def _report(
    definition: Definition,
    found: Sequence[Cell],
    failed: Mapping[Cell, str],
    warnings: Sequence[str],
) -> None:
    for line in warnings:
        print(f"Warning: {line}", flush=True)
    folder = pathlib.Path(definition.folder)
    print(f"\n{(folder / 'results.md').read_text()}", flush=True)
    print(f"Results: {folder / 'results'}.md, .csv, .json, .png, .svg", flush=True)
    if failed:
        lines = "; ".join(f"{cell.in_words}: {why}" for cell, why in failed.items())
        raise FailedError(
            f"{len(failed)} of {len(found)} cells have failed; their logs are alongside their "
            f"folders. Rerun the same command to retry them. Failed: {lines}"
        )


def _plan(definition: Definition, found: Sequence[Cell]) -> Iterator[str]:
    """Describes the sweep in a few lines."""
    settings = len(found) // len(definition.seeds)
    yield (
        f"{len(found)} cells: {settings} setting{'s' * (settings != 1)}, "
        f"{len(definition.seeds)} seed{'s' * (len(definition.seeds) != 1)}; "
        f"{definition.jobs} in parallel, in {definition.folder}."
    )
    splits = {(cell.config.train_split, cell.config.eval_split) for cell in found}
    held_out = all(
        evaluated not in (None, trained)
        and evaluated.partition("[")[0] == trained.partition("[")[0]
        for trained, evaluated in splits
    )
    if settings > 1 and not held_out:
        names = sorted({evaluated or "the data set's own test split" for _, evaluated in splits})
        yield (
            f"Evaluation on {', '.join(names)}. To choose a setting, evaluate on held-out training "
            "images: --train_split='train[:80%]' --eval_split='train[80%:]'."
        )


def _identity(definition: Definition) -> dict:
    """Returns the fixed parts of a folder's sweep, for JSON: its dimensions and common flags."""
    values, by_stage = given(definition.flags)
    held = {name: value for name, value in values.items() if name not in _NO_PART}
    held |= {f"{stage}.{k}": v for stage, own in by_stage.items() for k, v in own.items()}
    lists = {k: list(v) if isinstance(v, tuple) else v for k, v in held.items()}
    return {"dimensions": list(definition.dimensions), "flags": lists}


def _check_folder(definition: Definition) -> None:
    """Raises a `SweepError` if the folder holds a run or another sweep."""
    folder = pathlib.Path(definition.folder)
    advice = "Choose another --output; that folder was not changed."
    if (folder / "config.json").exists():
        raise SweepError(
            f"`output` must be new or hold the same sweep. Received: {folder}, which holds a run. "
            f"{advice}"
        )
    if not (folder / earlier.FILE).exists():
        return
    held, own = earlier.read(folder).get("sweep"), _identity(definition)
    if held != own:
        there = held if isinstance(held, dict) else {}
        raise SweepError(
            f"`output` must be new or hold the same sweep. Received: {folder}, which holds another "
            f"sweep ({'; '.join(_differences(there, own))}). {advice}"
        )


def _differences(there: Mapping, here: Mapping) -> Iterator[str]:
    if there.get("dimensions") != here["dimensions"]:
        names = [", ".join(held.get("dimensions", ())) or "nothing" for held in (there, here)]
        yield f"{names[0]} vary in the folder, {names[1]} here"
    before, after = there.get("flags", {}), here["flags"]
    for name in sorted(before | after):
        if before.get(name) != after.get(name):
            shown = [str(held.get(name, "not given")) for held in (before, after)]
            yield f"{name}={shown[0]} in the folder, {shown[1]} here"


def _write_plan(definition: Definition, found: Sequence[Cell]) -> None:
    """Writes `sweep.json`; keeps cells of earlier commands with other values or seeds."""
    folder = pathlib.Path(definition.folder)
    own = [
        {
            "setting": dict(cell.setting),
            "seed": cell.seed,
            "folder": str(pathlib.PurePath(cell.folder).relative_to(definition.folder)),
            "command": cell.command,
        }
        for cell in found
    ]
    held = earlier.read(folder)["cells"] if (folder / earlier.FILE).exists() else []
    folders = {cell["folder"] for cell in own}
    own += [cell for cell in held if cell["folder"] not in folders]
    content = {"sweep": _identity(definition), "cells": own}
    files.write_text(epath.Path(folder / earlier.FILE), files.to_json(content))


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Handles SIGTERM like Ctrl-C, with its own exit status."""

    def answer(number, _):
        signals.absorb_repeats([number])
        signal.signal(
            number, signal.default_int_handler
        )  # a second request acts like a second Ctrl-C
        raise _interrupted(128 + number, "Stopped.")

    before = signal.signal(signal.SIGTERM, answer)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupted(status: int, message: str) -> errors.Interrupted:
    interruption = errors.Interrupted(message)
    interruption.exit_status = status
    return interruption
