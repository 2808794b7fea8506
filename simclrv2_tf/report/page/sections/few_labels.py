"""How good with few labels? Accuracy by method and share of the labels."""

from __future__ import annotations

from simclrv2_tf.report.figures import accuracy_figure
from simclrv2_tf.report.page import blocks, pictures
from simclrv2_tf.report.page.runs import Run, Stage
from simclrv2_tf.report.page.sections import verdict
from simclrv2_tf.report.results import METHODS, percent

QUESTION = "How good with few labels?"
_HEADER = (
    "labels",
    "method",
    "top-1",
    "95% interval",
    "gain (points)",
    "ECE",
    "number of labels",
    "parameters",
)
_INCHES = (5.4, 4.2)  # readable on a phone


def answer(run: Run, prefix: str) -> list[blocks.Block] | None:
    """Returns a table and a figure with intervals; None without a subset of the labels."""
    planned = [stage for stage in run.stages if stage.method and stage.fraction]
    if not planned:
        return None
    stages = run.few_label
    if not stages:
        return [blocks.Text("No stage with few labels has been evaluated yet.")]
    rows = [_row(stage) for stage in stages]
    alt = "Top-1 accuracy against the share of labels by method. The table has the numbers."
    svg = pictures.inline_svg(_drawn, rows, f"{prefix}-accuracy", alt)
    about = (
        "Bars are 95% intervals (Wilson) for the test images. They do not include the variation "
        "between seeds and draws of labels."
    )
    return [_table(run, stages), blocks.Figures([blocks.Figure(svg, alt, caption=about)], True)]


def _drawn(rows: list[dict]):
    return accuracy_figure(rows, _INCHES)


def _row(stage: Stage) -> dict:
    """Returns a row for `accuracy_figure`."""
    interval = stage.interval
    return {
        "label_fraction": stage.fraction,
        "method": stage.name,
        "num_labels": stage.num_labels,
        "top1": stage.top1,
        "top1_low": interval and min(interval.low, stage.top1),
        "top1_high": interval and max(interval.high, stage.top1),
    }


def _table(run: Run, stages: list[Stage]) -> blocks.Table:
    best = max(stages, key=lambda stage: stage.top1)
    rows = []
    for stage in stages:
        baseline = run.baseline(stage)
        rows.append(
            (
                percent(stage.fraction),
                METHODS[stage.name].name,
                blocks.share(stage.top1),
                blocks.between(stage.interval),
                baseline and verdict.points(stage.top1 - baseline.top1),
                blocks.share(stage.error),
                blocks.count(stage.num_labels),
                blocks.count(stage.result.get("encoder_parameters")),
            )
        )
    caption = (
        "Top-1 accuracy on the test images, gain over supervised training with the same labels, "
        "expected calibration error (ECE), and parameters of the encoder"
    )
    return blocks.Table(caption, _HEADER, rows, stages.index(best))
