"""The evaluation of a stage: accuracy, calibration, and the files that hold them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from etils import epy

from simclrv2_tf import files
from simclrv2_tf.experiments.answers import Answers
from simclrv2_tf.experiments.data import Batches

with epy.lazy_imports():
    from simclrv2_tf import predictions, stages
    from simclrv2_tf.metrics import classification
    from simclrv2_tf.training import loop, summaries

if TYPE_CHECKING:
    from simclrv2_tf import datasets
    from simclrv2_tf.experiments.stage import Built, StageRun

OWN = "evaluation"  # by the stage's own classifier
# Entries of a result that are not metrics: counts, steps, and the ends of an interval.
_NO_METRICS = {
    *("images", "global_step", "encoder_parameters", "selected_step", "stopped_step"),
    *("pretrain_global_step", "label_top_1_low", "label_top_1_high"),
}


def evaluate(
    run: StageRun,
    stage: stages.Stage,
    split: datasets.Split | None = None,
    shown: bool = True,
    answers: Answers | None = None,
) -> dict[str, float]:
    """Returns the metrics of `stage.test_step` over a split, by default the evaluation split.

    `eval_steps` only applies to the evaluation split. `shown` says whether the run's console shows
    the evaluation; `answers` collects the answers of a `stages.Evaluation`.
    """

    def batches(context):
        if answers is not None:
            answers.expect(context)
        return Batches(run.config, context).evaluation(split, batch)

    batch = run.config.eval_batch_size
    most = 0 if split else run.config.eval_steps
    split = split or run.eval_split
    steps = -(-split.num_examples // batch)
    return loop.evaluate(
        stage,
        run.strategy,
        batches,
        steps=min(most or steps, steps),
        callbacks=run.console.evaluation() if shown else (),
        verbose=run.console.verbose if shown else 0,
        on_answers=None if answers is None else answers.add,
    )


def evaluate_classifier(
    run: StageRun,
    built: Built,
    make: Callable[[], Callable],
    num_classes: int,
    name: str = OWN,
) -> tuple[dict, dict]:
    """Measures accuracy and calibration of a classifier; returns metrics and calibration data.

    The chief writes `predictions.csv` for the stage's own classifier.

    Args:
        run: The stage's run.
        built: The built stage, which caches the evaluation by its `name`.
        make: Function that makes the classifier, `predict` of `stages.Evaluation`.
        num_classes: Number of its classes.
        name: Name of the evaluation, if the stage has several.
    """
    with run.strategy.scope():
        stage = built.once(name, lambda: stages.Evaluation(make(), num_classes))
    answers = Answers() if name == OWN else None
    logs = evaluate(run, stage, answers=answers)
    counts: dict[str, float] = {}
    if answers is not None:
        right = answers.right
        counts["images"] = len(right)
        if len(right):
            accuracy = classification.wilson(int(right.sum()), len(right))
            counts |= {"label_top_1_low": accuracy.low, "label_top_1_high": accuracy.high}
        if run.is_chief:
            found = answers.of(run.eval_split, run.data.main.class_names)
            predictions.write(run.directory.named(predictions.NAME), found)
    error = logs["expected_calibration_error"]
    metrics = {
        "label_top_1_accuracy": logs["top_1_accuracy"],
        **counts,
        "label_top_5_accuracy": logs["top_5_accuracy"],
        "loss": logs["loss"],
        "expected_calibration_error": error,
    }
    calibration = {
        "top1": logs["top_1_accuracy"],
        "expected_calibration_error": error,
        "bins": stage.calibration.bins(),
    }
    return metrics, calibration


def write_calibration(run: StageRun, calibration: Mapping[str, dict]) -> None:
    """Writes the calibration of each classifier, by name."""
    if run.is_chief:
        files.write_text(run.directory.named("calibration.json"), files.to_json(dict(calibration)))


def write_result(run: StageRun, result: Mapping[str, float], step: int) -> None:
    """Writes `result.json`, and its metrics for TensorBoard."""
    metrics = {k: v for k, v in result.items() if k not in _NO_METRICS}
    if not run.labelled and "loss" in metrics:
        # The online classifier's loss; during pretraining, `loss` includes all trained parts.
        metrics["probe_loss"] = metrics.pop("loss")
    summaries.write(run.directory.evaluation_logs, metrics, step)
    files.write_text(run.directory.result, files.to_json(dict(result)))
