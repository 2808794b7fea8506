"""Can its confidence be trusted? Calibration."""

from __future__ import annotations

from collections.abc import Mapping

from simclrv2_tf.report.page import blocks, pictures
from simclrv2_tf.report.page.runs import Run, Stage
from simclrv2_tf.report.reliability import can_be_drawn, reliability_figure

QUESTION = "Can its confidence be trusted?"
_MOST_FIGURES = 6
_NEEDS = "needs at least one evaluated image, and numbers that are finite"


def answer(run: Run, prefix: str) -> list[blocks.Block] | None:
    """Returns calibration errors and reliability diagrams; None without a classifier."""
    if not any(stage.learns_labels for stage in run.stages):
        return None
    stages = [stage for stage in run.evaluated if stage.own_calibration]
    if not stages:
        return [
            blocks.Text("This section needs a classifier that was evaluated on labelled images.")
        ]
    rows = [
        (
            stage.in_words,
            blocks.share(stage.own_calibration["expected_calibration_error"]),
            blocks.share(_confidence(stage.own_calibration)),
            blocks.share(stage.own_calibration["top1"]),
            _judged(stage.own_calibration),
        )
        for stage in stages
    ]
    header = ["classifier", "ECE", "mean confidence", "top-1", ""]
    caption = (
        "The expected calibration error (ECE, 15 bins) is the average difference between "
        "confidence and accuracy; 0% is best"
    )
    table = blocks.Table(caption, header, rows)
    drawable = [stage for stage in stages if can_be_drawn(stage.own_calibration)]
    if not drawable:
        return [table, blocks.Text(f"A diagram {_NEEDS}.")]
    # Does not change with later stages, so that a figure is drawn once.
    place = {stage.folder: number for number, stage in enumerate(run.stages)}
    figures = [
        _figure(stage, f"{prefix}-reliability-{place[stage.folder]}")
        for stage in _shown(run, drawable)
    ]
    about = (
        "In the diagrams, a bar below the dashed line has more confidence than accuracy. The "
        "hatched part is the gap: orange for overconfidence, light blue for underconfidence."
    )
    found: list[blocks.Block] = [table, blocks.Text(about), blocks.Figures(figures)]
    left_out = [stage.in_words for stage in stages if not can_be_drawn(stage.own_calibration)]
    if left_out:
        found.append(blocks.Text(f"A diagram {_NEEDS}; omitted: {'; '.join(left_out)}."))
    return found


def _shown(run: Run, stages: list[Stage]) -> list[Stage]:
    """Returns the stages to draw: all if few, else the best and the baseline per label share."""
    if len(stages) <= _MOST_FIGURES // 2:
        return stages
    chosen = []
    for fraction in dict.fromkeys(stage.fraction for stage in stages):
        group = [stage for stage in stages if stage.fraction == fraction]
        best = max(group, key=lambda stage: stage.top1)
        chosen += [stage for stage in (run.baseline(best), best) if stage in stages]
    return chosen[:_MOST_FIGURES]


def _drawn(calibration: Mapping):
    return reliability_figure({"": calibration}, legend=False)


def _figure(stage: Stage, prefix: str) -> blocks.Figure:
    calibration = stage.own_calibration
    alt = (
        f"Reliability diagram: accuracy in bins of confidence. ECE "
        f"{blocks.share(calibration['expected_calibration_error'])}, {_judged(calibration)}."
    )
    title = stage.in_words
    svg = pictures.inline_svg(_drawn, calibration, prefix, f"{title}. {alt}")
    return blocks.Figure(svg, alt, title[:1].upper() + title[1:])


def _confidence(calibration: Mapping) -> float | None:
    """Returns the mean confidence over all images; None without images or if not finite."""
    if not can_be_drawn(calibration):
        return None
    bins = [entry for entry in calibration["bins"] if entry["count"]]
    total = sum(entry["count"] for entry in bins)
    return sum(entry["count"] * entry["confidence"] for entry in bins) / total


def _judged(calibration: Mapping) -> str | None:
    """Compares confidence with accuracy in words; None if not known."""
    confidence = _confidence(calibration)
    if confidence is None:
        return None
    gap = confidence - calibration["top1"]
    if abs(gap) < 0.01:
        return "well calibrated on average"
    return f"{'overconfident' if gap > 0 else 'underconfident'} by {100 * abs(gap):.1f} points"
