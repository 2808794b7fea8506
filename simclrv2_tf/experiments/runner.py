"""A whole run: its stages in order, and their results together.

A run of one stage uses `model_dir` itself. A run of several stages has a folder per stage:

    model_dir/
      config.json, result.json
      pretrain/
      linear_eval/, linear_eval_random_init/       with linear evaluation
      label_fraction_0.01/                         for each label fraction
        supervised/, fine_tuned/, self_distilled/, small_student/
      results.json, results.md                     one row per fraction and method
      report.html                                  all results on one page
      figures/                                     accuracy, learning curves, reliability
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from absl import logging
from etils import epath, epy

from simclrv2_tf import environment, precision
from simclrv2_tf.channels import RGB
from simclrv2_tf.console import Console, make_console
from simclrv2_tf.console.text import broken
from simclrv2_tf.experiments import (
    data_summary,
    dry_run,
    early,
    execution,
    plan,
    record,
    registry,
    report_page,
    results,
)
from simclrv2_tf.experiments.built_stages import BuiltStages
from simclrv2_tf.experiments.data import open_data
from simclrv2_tf.experiments.directory import RunDirectory, RunError
from simclrv2_tf.experiments.owner import Owner
from simclrv2_tf.experiments.stage import Seams, StageRun

with epy.lazy_imports():
    import keras
    import tensorflow as tf

    from simclrv2_tf import distribute, weights
    from simclrv2_tf.training import trackers

if TYPE_CHECKING:
    from simclrv2_tf.config import Config

_NO_SEAMS = Seams()
_OBJECTS_A_COLLECTION = 20_000  # new objects; Python's default is 700


def run(config: Config, seams: Seams = _NO_SEAMS) -> dict:
    """Runs the stage or stages that `config.train_mode` names.

    Args:
        config: The options of the run.
        seams: Replacements with which tests make a run smaller.

    Returns:
        The content of `result.json`; empty after `mode="train"` and after `dry_run`.

    Raises:
        ConfigError, DatasetError, RunError, CheckpointError, DeviceError, ExportError, ModelError,
            TrackerError: the run cannot start; nothing on disk was changed.
        NonFiniteError: training diverged.
    """
    strategy = distribute.strategy_of(config)
    environment.first_operation()
    environment.skip_graph_rewrites()
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
        keras.utils.set_random_seed(config.seed)
    config, reason = with_precision(config, strategy)
    config = with_antialias(config)
    check_channels(config)
    planned = plan.plan_stages(config)
    resizing = "Images are resized with antialiasing. " if config.antialias else ""
    print(f"{config.precision}: {reason}. {resizing}{environment.onednn()}.", flush=True)
    if distribute.is_chief(strategy):
        trackers.check(config.report_to or ())
    else:
        print("This worker trains; the chief reports and writes files.", flush=True)
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            return _run(config, planned, strategy, seams)
    return _run(config, planned, strategy, seams)


def with_precision(config: Config, strategy: tf.distribute.Strategy) -> tuple[Config, str]:
    """Replaces the precision `auto` by the resumed run's precision, or by one for the devices."""
    if config.precision != "auto":
        return config, "as given"
    begun = early.as_begun(config)
    if begun.precision != "auto":
        return dataclasses.replace(config, precision=begun.precision), "as in the resumed run"
    found, reason = precision.detect()
    if len(set(distribute.of_all_replicas(strategy, precision.PRECISIONS.index(found)))) > 1:
        found, reason = "float32", "the processors of the workers differ"
    return dataclasses.replace(config, precision=found), reason


def with_antialias(config: Config) -> Config:
    """Resolves `antialias` None: from the resumed run, the weights, or the data.

    Warns if the given value differs from the starting weights' value.
    """
    source = config.teacher or config.checkpoint
    trained = weights.antialiased(source) if source else config.dataset.startswith("folder:")
    if config.antialias is None:
        begun = early.as_begun(config).antialias
        return dataclasses.replace(config, antialias=trained if begun is None else begun)
    if source and trained != config.antialias:
        logging.warning(
            "The weights of %s were trained %s antialiased resizing. Received: antialias=%s",
            source,
            "with" if trained else "without",
            config.antialias,
        )
    return config


def check_channels(config: Config) -> None:
    """Rejects weights for images of other channels, before any image is read.

    Raises:
        RunError: `checkpoint` was trained on images of other channels.
        CheckpointError: the weights are missing or unreadable.
    """
    if not config.checkpoint or config.channels == RGB:  # other weights do not fit RGB, either
        return
    trained = weights.channels(config.checkpoint)
    if trained != config.channels:
        raise RunError(
            f"`channels` must be {trained}, as in the run of `checkpoint`. Received: "
            f"channels={config.channels}, checkpoint={config.checkpoint}. For other channels, "
            "pretrain on such images."
        )


def _run(config: Config, planned: list[plan.PlannedStage], strategy, seams: Seams) -> dict:
    keras.config.set_dtype_policy(config.precision)
    several = config.train_mode in plan.RUNS
    if several:
        RunDirectory(config).check()
    data = open_data(config)
    # All stages are made, and so checked, before the first starts.
    outcomes = [
        results.Outcome(
            stage,
            registry.stages()[stage.config.train_mode](
                stage.config, data, strategy, stage.caps_batch, seams
            ),
        )
        for stage in planned
    ]
    for line in data_summary.lines(data, config):
        print(broken(line), flush=True)
    if config.dry_run:
        dry_run.rehearse([outcome.run for outcome in outcomes])
        return {}
    # Evaluations write their own files, and may run at the same time as the training.
    owns = outcomes[0].run.is_chief and config.mode != "eval"
    root = RunDirectory(config)
    works = [outcome.run.work for outcome in outcomes]
    console = make_console(works, outcomes[0].run.is_chief, config.verbose)
    for outcome in outcomes:
        outcome.run.console = console
    with (
        Owner(root.path, config.take_over) if owns else contextlib.nullcontext(),
        console,
    ):
        built_stages = BuiltStages([outcome.run for outcome in outcomes])
        if several:
            result, summary = _run_stages(config, outcomes, built_stages, console)
        else:
            console.begin(0)
            result, summary = _run_stage(outcomes[0].run, built_stages)
            console.end()
        if owns and config.mode == "train_then_eval" and (found := record.identity(config)):
            root.record.finish(found, summary)
    if several and summary:
        print(summary, flush=True)  # after the bars, which would break lines
    return result


def _run_stage(run: StageRun, built_stages: BuiltStages) -> tuple[dict, str]:
    """Returns the result, and its text."""
    result, worked = execution.execute(run, built_stages, run.directory.path)
    if run.is_chief and run.config.mode != "train":
        results.draw_calibration(run.directory)
    if run.is_chief and worked and run.seams.exports and run.config.mode != "eval":
        results.draw_learning_curves(run.directory)
    if worked and (page := _write_report(run, run.config)):
        print(f"Report: {page}", flush=True)
    return result, execution.in_words(result)


def _write_report(run: StageRun, whole: Config) -> epath.Path | None:
    """Writes the report of the run so far, after a stage has ended."""
    if not run.is_chief or not run.seams.exports or whole.eval_name:
        return None
    return report_page.write_or_log(whole.model_dir)


@contextlib.contextmanager
def _few_collections() -> Iterator[None]:
    """Makes Python's garbage collector run less often, and skip imported modules.

    Tracing and building create millions of objects, most of which stay.
    """
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_OBJECTS_A_COLLECTION, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def _run_stages(
    config: Config,
    outcomes: list[results.Outcome],
    built_stages: BuiltStages,
    console: Console,
) -> tuple[dict, str]:
    """Returns the result, and its text."""
    root = RunDirectory(config)
    with _few_collections():
        for index, outcome in enumerate(outcomes):
            console.begin(index)
            number = f"[{index + 1}/{len(outcomes)}] "
            outcome.result, worked = execution.execute(outcome.run, built_stages, root.path, number)
            console.end()
            if not built_stages.keeps(outcome.run) and index + 1 < len(outcomes):
                gc.collect()  # the graphs of a dropped stage are large reference cycles
            if index == 0 and config.mode != "eval" and outcome.run.is_chief:
                root.claim()
            if worked:
                _write_report(outcome.run, config)
    if not all(outcome.result for outcome in outcomes):
        return {}, ""
    if not outcomes[0].run.is_chief:
        return outcomes[0].result, ""
    return results.report(root, outcomes)
