"""How many labels do I need? The gain by each larger number of labels."""

from __future__ import annotations

from simclrv2_tf.report.label_steps import LabelPoint, LabelStep, label_steps, last_step
from simclrv2_tf.report.page import blocks
from simclrv2_tf.report.page.runs import Run
from simclrv2_tf.report.page.sections import verdict
from simclrv2_tf.report.results import METHODS

QUESTION = "How many labels do I need?"
_HEADER = ("method", "labels", "factor", "gain (points)", "95% interval", "conclusion")


def answer(run: Run, prefix: str) -> list[blocks.Block] | None:
    """Returns the gain of each step to more labels; None without a subset of the labels.

    The curve is in the figure of `few_labels`.
    """
    if not any(stage.method and stage.fraction for stage in run.stages):
        return None
    points = [
        LabelPoint(stage.name, stage.num_labels, stage.top1, stage.predictions)
        for stage in run.few_label
        if stage.num_labels and stage.top1 is not None
    ]
    steps = label_steps(points)
    last = last_step(points, steps)
    if last is None:
        return [
            blocks.Text(
                "This section needs one method with two numbers of labels. Start a new run with "
                "--label_fraction=0.01,0.1 to have both."
            )
        ]
    caption = (
        "The gain by more labels, on the same test images; the figure of the section above has the "
        "accuracies"
    )
    table = blocks.Table(caption, _HEADER, [_row(step) for step in steps], steps.index(last))
    return [blocks.Text(_answer(last)), table, blocks.Text(_limits(last))]


def _row(step: LabelStep) -> tuple:
    compared = step.compared
    return (
        METHODS[step.method].name,
        f"{step.fewer:,} to {step.more:,}",
        blocks.Number(f"{step.factor:.3g}", step.factor),
        verdict.points(step.gain),
        compared and f"{_signed(compared.low)} to {_signed(compared.high)}",
        step.conclusion,
    )


def _signed(share: float) -> str:
    return str(verdict.points(share))


def _answer(step: LabelStep) -> str:
    """Describes the last step."""
    name = METHODS[step.method].name
    said = (
        f"The best method with {step.more:,} labels is {name}: {step.in_words} it gained "
        f"{_signed(step.gain)} points"
    )
    if step.compared is None:
        return f"{said}, without an interval."
    said += (
        f" (95% interval {_signed(step.compared.low)} to {_signed(step.compared.high)}): "
        f"{step.conclusion}."
    )
    if step.compared.low > 0:
        return f"{said} The curve still rises at its end, so more labels may help."
    if step.compared.high >= 0:
        return f"{said} Within the interval, {step.fewer:,} labels were as good."
    return said


def _limits(step: LabelStep) -> str:
    return (
        f"Nothing was measured beyond {step.more:,} labels: the curve does not predict the gain of "
        "the next step. Each point is one draw of the labels and one seed, which the intervals do "
        "not include: they only account for the test images."
    )
