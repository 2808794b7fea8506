"""The execution of a stage: train from weights or a checkpoint, export, evaluate.

A rerun of the same command resumes from the last checkpoint; a finished stage is skipped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from absl import logging
from etils import epy

from simclrv2_tf import checkpoint_files, files, hugging_face
from simclrv2_tf.console.text import broken
from simclrv2_tf.experiments import evaluation, record, validation
from simclrv2_tf.experiments.directory import RunError
from simclrv2_tf.experiments.exports import Exports

with epy.lazy_imports():
    import keras
    import tensorflow as tf

    from simclrv2_tf import distribute, weights
    from simclrv2_tf.datasets import labels as label_subset
    from simclrv2_tf.training import (
        callbacks,
        divergence,
        history,
        loop,
        stopping,
        summaries,
        trackers,
    )

if TYPE_CHECKING:
    from etils import epath

    from simclrv2_tf.experiments.built_stages import BuiltStages
    from simclrv2_tf.experiments.stage import Built, StageRun

# Whatever ends the process may damage the newest checkpoint.
_KEPT_WHILE_TRAINING = 2


def execute(
    run: StageRun, built_stages: BuiltStages, root: epath.Path, number: str = ""
) -> tuple[dict, bool]:
    """Trains, exports and evaluates, according to `mode`.

    Args:
        run: The stage.
        built_stages: The built stages of the whole run.
        root: The folder of the whole run.
        number: Number of the stage in a run of several, for the log.

    Returns:
        The result, and whether anything was done.
    """
    print(f"\n{broken(f'{number}{run.in_words}')}\n  in {run.directory}", flush=True)
    made_of = run.made_of()
    run.directory.check_made_of(made_of)
    finished = run.directory.finished(run.total_steps)
    if finished is not None and not Exports(run, finished["global_step"]).finished():
        finished = None
    _check_workers_agree(run, "have finished it (1) or not (0)", int(finished is not None))
    if finished is not None:
        print("Finished before; nothing to do.", flush=True)
        built_stages.skip(run)
        return finished, False
    names = (run.config.report_to or ()) if run.is_chief else ()
    with trackers.tracking(names, run.directory.path) as tracked:
        result = _execute(run, built_stages, made_of, root, tracked)
    distribute.barrier(run.strategy)  # the next stage reads the chief's files
    return result, True


def _execute(
    run: StageRun,
    built_stages: BuiltStages,
    made_of: dict,
    root: epath.Path,
    tracked: trackers.Tracking,
) -> dict:
    config = run.config
    with run.strategy.scope():
        built = built_stages.build(run)
        progress = _Progress(built)
    validated = validation.Validation(run, built) if run.validation_split else None
    store = weights.Checkpoints(
        str(run.directory.checkpoints),
        weights.named(built.networks.weights, built.stage.optimizer) | built.state,
        keep=config.keep_checkpoint_max or _KEPT_WHILE_TRAINING,
        writes=run.is_chief,
        progress=progress.variables | (validated.progress if validated else {}),
    )
    restored = store.restore()
    step = _step_of(built)
    _check_workers_agree(run, "are at step", step)
    had_ended = step >= run.total_steps or bool(validated and validated.stopped)
    if config.mode == "eval":
        if not restored:
            raise RunError(
                f"mode=eval needs a checkpoint, but {run.directory} has none. Train first."
            )
    else:
        _begin(run, built, restored, made_of)
    tracked.start(_description(run, root))
    if config.mode != "eval" and not had_ended:
        _train(run, built, store, step, progress, validated, tracked)
    ended_at = _step_of(built)
    stopped = None
    if validated and validated.stopped and ended_at < run.total_steps:
        stopped = f"Stopped at step {ended_at:,} of {run.total_steps:,}: {validated.stopped}."
        print(stopped, flush=True)
    exported = Exports(run, ended_at)
    selected = validated.take_best() if validated else None
    if config.mode != "eval":
        exported.write(built, replace=not had_ended)
    if config.mode == "train":
        if run.is_chief:
            exported.finish({})
        _end(run, store, stopped)
        return {}
    result = run.evaluate(built)
    parameters = built.networks.encoder.count_params()
    result |= {"global_step": ended_at, "encoder_parameters": parameters}
    result |= {"selected_step": selected} if selected else {}
    result |= {"stopped_step": ended_at} if stopped else {}
    if run.is_chief:
        exported.finish(result)
        tracked.log_results(result, run.directory.evaluation_logs.name)
        evaluation.write_result(
            run, result, ended_at
        )  # last: its presence means that the stage has ended
    _end(run, store, stopped)
    print(f"  {in_words(result, everything=config.verbose)}", flush=True)
    return result


def _description(run: StageRun, root: epath.Path) -> trackers.Description:
    options = {k: v for k, v in json.loads(run.config.to_json()).items() if v is not None}
    # In a sweep, the parent folders name the cell.
    whole = root.name if root.is_absolute() else root.as_posix().removeprefix("runs/")
    below = run.directory.path.relative_to(root)
    name = f"{whole}/{below.as_posix()}".removesuffix("/.")
    return trackers.Description(name, whole, options)


def _end(run: StageRun, store: weights.Checkpoints, stopped: str | None) -> None:
    """Removes checkpoints that are only needed for training, and records the end."""
    if run.is_chief and run.config.mode != "eval":
        run.directory.record.end(stopped)
    if run.config.keep_checkpoint_max is None and run.config.mode != "eval":
        store.keep_newest()


def _check_workers_agree(run: StageRun, what: str, value: int) -> None:
    values = distribute.of_all_replicas(run.strategy, value)
    if len(set(values)) > 1:
        raise RunError(
            "`model_dir` must be on a disk that all workers share. Received: "
            f"{run.directory}, according to which the workers {what}: {values}"
        )


def _begin(run: StageRun, built: Built, restored: bool, made_of: dict) -> None:
    """Loads the starting weights unless a checkpoint was restored, and claims the folder."""
    if restored:
        if run.directory.record.made_of() is None:
            logging.warning(
                "%s has no run.json: whether it still has the same data and starting weights is "
                "not "
                "known.",
                run.directory,
            )
        print(f"  Resuming at step {_step_of(built):,} of {run.total_steps:,}.", flush=True)
    else:
        load_start(run, built)
    subset, path = _label_subset(run), run.directory.labelled_examples
    if subset and path.exists() and label_subset.read(path) != subset:
        raise RunError(
            f"{path} lists other examples than the current label subset: the data have changed. "
            "Choose another --model_dir; that folder was not changed."
        )
    if run.is_chief:
        session = record.session(run.replicas, run.config.precision, distribute.device_names())
        if changed := run.directory.begin(made_of, session):
            print(f"Changed since the last session: {'; '.join(changed)}.", flush=True)
        _list_skipped(run)
        if subset:
            label_subset.write(path, subset)


def load_start(run: StageRun, built: Built) -> None:
    """Loads the starting weights of a run.

    Raises:
        CheckpointError: the weights are missing, unreadable, or of another network.
    """
    config = run.config
    if config.checkpoint:
        networks = built.networks
        found = [model for model in (networks.encoder, networks.head) if model is not None]
        predictor = networks.predictor
        if predictor is not None and weights.fits(config.checkpoint, [predictor]):
            found.append(predictor)
        weights.load(config.checkpoint, found)
        name = hugging_face.name_of(config.checkpoint) or config.checkpoint
        print(f"  Starting from the weights in {name}.", flush=True)
    elif config.train_mode in ("finetune", "linear_eval"):
        print("  Starting from random weights: no `checkpoint` is given.", flush=True)
    if built.start is not None:
        built.start()


def _label_subset(run: StageRun) -> tuple[str, ...]:
    """Returns the ids of the label subset; none if all labels are used."""
    config = run.config
    if run.labelled_split is None or not (config.label_fraction or config.labels_per_class):
        return ()
    return tuple(run.labelled_split.labels()[0].tolist())


class _Progress:
    """The metrics and seconds of an epoch so far, for a checkpoint within the epoch."""

    def __init__(self, built: Built):
        self.seconds = keras.Variable(0.0, trainable=False, dtype="float32", name="seconds")
        self.variables = {f"{weights.PROGRESS}seconds": self.seconds}
        for metric in built.stage.metrics:
            for index, variable in enumerate(metric.variables):
                self.variables[f"{weights.PROGRESS}{metric.name}/{index}"] = variable


def _train(
    run: StageRun,
    built: Built,
    store: weights.Checkpoints,
    begin: int,
    progress: _Progress,
    validated: validation.Validation | None,
    tracked: trackers.Tracking,
) -> None:
    config = run.config
    agree = distribute.Agreement(run.strategy)
    saving = callbacks.SaveCheckpoints(
        store,
        config.checkpoint_steps,
        config.checkpoint_epochs,
        config.checkpoint_minutes,
        agree,
    )
    writing = [saving, stopping.StopWhenAsked(saving.save, run.total_steps, agree)]
    if run.is_chief:
        run.before_training()
        logs = run.directory.logs("train")
        writing = [
            divergence.LossSpikes(_first_loss(run), lambda: _newest(run)),
            summaries.Summaries(logs.parent, config.train_summary_steps),
            history.HistoryFile(run.directory.history, progress.seconds),
            *tracked.callbacks(),
            *writing,
        ]
        if config.profile:
            writing.append(callbacks.Profile(logs))
    try:
        loop.train(
            built.stage,
            run.strategy,
            lambda context: run.batches(context, begin),
            schedule=run.schedule,
            total_steps=run.total_steps,
            epochs=run.epochs,
            start_step=begin,
            steps_per_execution=config.steps_per_execution or (16 if _accelerated() else 1),
            callbacks=[
                *built.callbacks,
                *(validated.callbacks if validated else ()),
                *writing,
                *run.console.training(run.total_steps),
            ],
            verbose=run.console.verbose,
        )
    except divergence.NonFiniteError as error:
        raise _explained(error, run, _step_of(built), begin) from None
    if built.stage.waits and (advice := built.stage.waits.advice):
        print(advice, flush=True)
    if run.data.num_skipped:
        print(f"{run.data.num_skipped:,} unreadable image(s) were skipped.", flush=True)
    if run.is_chief:
        _list_skipped(run)  # including those found during training


def _list_skipped(run: StageRun) -> None:
    if skipped := run.data.skipped:
        files.write_text(run.directory.skipped, files.csv_text([("file", "reason"), *skipped]))


def _newest(run: StageRun) -> str | None:
    return checkpoint_files.newest(run.directory.checkpoints)


def _first_loss(run: StageRun) -> float | None:
    """Returns the mean loss of the first epoch, for a run resumed after it."""
    rows = history.read_history(run.directory.history) if run.directory.history.exists() else []
    return float(rows[0]["loss"]) if rows else None


def _explained(
    error: divergence.NonFiniteError, run: StageRun, step: int, begin: int
) -> divergence.NonFiniteError:
    """Adds what is known about the run to `error`."""
    causes = divergence.likely_causes(
        first=step - begin <= 1,
        rate=float(run.schedule(max(step - 1, 0))),
        schedule=run.schedule,
        precision=run.config.precision,
        temperature=None if run.labelled else run.config.temperature,
    )
    return divergence.NonFiniteError(error.what, causes, _newest(run))


def _step_of(built: Built) -> int:
    return int(built.stage.optimizer.iterations.numpy())


def in_words(result: Mapping[str, float | None], everything: bool = False) -> str:
    """Formats a result in one line, for the log; with `everything`, all of its numbers."""
    if everything:
        return "  ".join(f"{name} {_shown(value)}" for name, value in result.items())
    found = {
        "top-1": _share(result.get("label_top_1_accuracy")),
        "teacher's top-1": _share(result.get("teacher_label_top_1_accuracy")),
        "ECE": _share(result.get("expected_calibration_error")),
    } | {
        text: _shown(result[name])
        for name, text in (
            ("contrast_loss", "contrastive loss"),
            ("representation_rank", "representation rank"),
        )
        if name in result
    }
    low, high = (_share(result.get(f"label_top_1_{end}")) for end in ("low", "high"))
    if low and high:
        found["top-1"] += f" (95% interval {low} to {high})"
    return ", ".join(f"{name} {text}" for name, text in found.items() if text) or in_words(
        result, everything=True
    )


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}%"


def _shown(value: float | None) -> str:
    if value is None:
        return "not finite"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _accelerated() -> bool:
    return any(device.device_type in ("GPU", "TPU") for device in tf.config.list_logical_devices())
