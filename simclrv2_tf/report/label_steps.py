"""What more labels brought: a method's accuracy with one number of labels against the next."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from simclrv2_tf.metrics import classification
from simclrv2_tf.metrics.classification import Comparison
from simclrv2_tf.predictions import Predictions
from simclrv2_tf.report.results import METHODS


@dataclasses.dataclass(frozen=True)
class LabelPoint:
    """A method's accuracy with a number of labels.

    Attributes:
        method: A key of `METHODS`.
        labels: The number of labels, at least 1.
        top1: Accuracy in [0, 1].
        predictions: Of its classifier, where there are any.
    """

    method: str
    labels: int
    top1: float
    predictions: Predictions | None = None


@dataclasses.dataclass(frozen=True)
class LabelStep:
    """From one number of labels of a method to its next larger one.

    Attributes:
        method: A key of `METHODS`.
        fewer, more: The two numbers of labels.
        gain: The difference of the accuracies, in [-1, 1].
        compared: The same with its 95% interval, by the same test images; None where there are no
            predictions of both for the same images.
    """

    method: str
    fewer: int
    more: int
    gain: float
    compared: Comparison | None

    @property
    def factor(self) -> float:
        """How many times as many labels."""
        return self.more / self.fewer

    @property
    def in_words(self) -> str:
        """Such as "from 100 to 1,000 labels (10 times as many)"."""
        return f"from {self.fewer:,} to {self.more:,} labels ({self.factor:.3g} times as many)"

    @property
    def conclusion(self) -> str:
        """What the interval says."""
        if self.compared is None:
            return "no interval, which needs predictions of both for the same images"
        if self.compared.low > 0:
            return "more labels helped"
        if self.compared.high < 0:
            return "more labels made it worse"
        return "no difference that these test images can show"

    @property
    def line(self) -> str:
        """What the step brought, and that no more is known, for the results."""
        gained = f"{100 * self.gain:+.1f}"
        if self.compared is not None:
            gained += f" ({100 * self.compared.low:.1f}, {100 * self.compared.high:.1f})"
        return (
            f"More labels: {METHODS[self.method].name}, {self.in_words}, gained {gained} points: "
            f"{self.conclusion}. Beyond {self.more:,} labels nothing was measured."
        )

    def row(self) -> dict:
        """The step as `results.json` holds it."""
        found = {
            "method": self.method,
            "fewer_labels": self.fewer,
            "more_labels": self.more,
            "gain": self.gain,
        }
        if self.compared is not None:
            found |= {
                "gain_low": self.compared.low,
                "gain_high": self.compared.high,
                "gain_p_value": self.compared.p_value,
            }
        return found


def label_steps(points: Iterable[LabelPoint]) -> list[LabelStep]:
    """The steps of each method, by method and number of labels; none of a method with one number.

    Args:
        points: In any order. Of several with the same method and number of labels the first counts.
    """
    curves: dict[str, dict[int, LabelPoint]] = {name: {} for name in METHODS}
    for point in points:
        curves[point.method].setdefault(point.labels, point)
    found = []
    for method, curve in curves.items():
        ordered = [curve[labels] for labels in sorted(curve)]
        for fewer, more in zip(ordered, ordered[1:], strict=False):
            compared = classification.gain(more.predictions, fewer.predictions)
            found.append(
                LabelStep(method, fewer.labels, more.labels, more.top1 - fewer.top1, compared)
            )
    return found


def last_step(points: Sequence[LabelPoint], steps: Sequence[LabelStep]) -> LabelStep | None:
    """The last step of the method that is the best with the most labels; None without one."""
    if not steps:
        return None
    most = max(step.more for step in steps)
    ends = {step.method: step for step in steps if step.more == most}
    best = max(
        (point for point in points if point.labels == most and point.method in ends),
        key=lambda point: point.top1,
    )
    return ends[best.method]
