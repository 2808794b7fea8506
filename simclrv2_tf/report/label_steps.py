"""The gain by more labels: a method's accuracy with one number of labels against the next."""

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
        predictions: Predictions of its classifier, if available.
    """

    method: str
    labels: int
    top1: float
    predictions: Predictions | None = None


@dataclasses.dataclass(frozen=True)
class LabelStep:
    """The step from one number of labels of a method to the next larger number.

    Attributes:
        method: A key of `METHODS`.
        fewer, more: The two numbers of labels.
        gain: The difference of the accuracies, in [-1, 1].
        compared: The gain with its 95% interval, on the same test images; None without predictions
            of both for the same images.
    """

    method: str
    fewer: int
    more: int
    gain: float
    compared: Comparison | None

    @property
    def factor(self) -> float:
        """The ratio of the numbers of labels."""
        return self.more / self.fewer

    @property
    def in_words(self) -> str:
        """Such as "from 100 to 1,000 labels (10 times as many)"."""
        return f"from {self.fewer:,} to {self.more:,} labels ({self.factor:.3g} times as many)"

    @property
    def conclusion(self) -> str:
        """The conclusion from the interval."""
        if self.compared is None:
            return "no interval: predictions of both for the same images are missing"
        if self.compared.low > 0:
            return "more labels helped"
        if self.compared.high < 0:
            return "more labels reduced the accuracy"
        return "no significant difference on these test images"

    @property
    def line(self) -> str:
        """Describes the gain, and that nothing beyond was measured, for the results."""
        gained = f"{100 * self.gain:+.1f}"
        if self.compared is not None:
            gained += f" ({100 * self.compared.low:.1f}, {100 * self.compared.high:.1f})"
        return (
            f"More labels: {METHODS[self.method].name}, {self.in_words}, gained {gained} points: "
            f"{self.conclusion}. Beyond {self.more:,} labels nothing was measured."
        )

    def row(self) -> dict:
        """Returns the step in the format of `results.json`."""
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
    """Returns the steps of each method, by method and number of labels.

    Args:
        points: In any order. The first of several with the same method and number of labels is
            used.
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
    """Returns the last step of the method that is best with the most labels, or None."""
    if not steps:
        return None
    most = max(step.more for step in steps)
    ends = {step.method: step for step in steps if step.more == most}
    best = max(
        (point for point in points if point.labels == most and point.method in ends),
        key=lambda point: point.top1,
    )
    return ends[best.method]
