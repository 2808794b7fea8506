"""What more labels brought: steps of a method's curve, and what is said of the last one."""

import numpy as np
import pytest

from simclrv2_tf.metrics.classification import paired_comparison
from simclrv2_tf.predictions import Predictions
from simclrv2_tf.report.label_steps import LabelPoint, label_steps, last_step

IMAGES = 400


def point(method, labels, right, images=IMAGES):
    """A classifier that is right about the first images, as many as `right`."""
    predicted = (np.arange(images) >= right).astype(int)
    ids = np.array([f"test/{k}" for k in range(images)])
    zeros = np.zeros(images, int)
    found = Predictions(ids, zeros, predicted, zeros + 0.9, ("a", "b"))
    return LabelPoint(method, labels, right / images, found)


def test_steps_are_those_of_the_same_images():
    points = [
        point("fine_tuned", 1000, 320),
        point("supervised", 10, 100),
        point("fine_tuned", 10, 200),
        point("fine_tuned", 100, 240),
        point("supervised", 1000, 90),
        point("small_student", 10, 150),
    ]
    steps = label_steps(points)
    assert [(s.method, s.fewer, s.more) for s in steps] == [
        ("supervised", 10, 1000),
        ("fine_tuned", 10, 100),
        ("fine_tuned", 100, 1000),
    ]
    for step, (fewer, more) in zip(steps, ((100, 90), (200, 240), (240, 320)), strict=True):
        assert step.gain == pytest.approx((more - fewer) / IMAGES)
        right = [np.arange(IMAGES) < count for count in (more, fewer)]
        assert step.compared == paired_comparison(*right)
        row = step.row()
        assert (row["gain_low"], row["gain_high"]) == (step.compared.low, step.compared.high)
        assert row["gain_p_value"] == step.compared.p_value
    assert [step.factor for step in steps] == [100, 10, 10]
    assert last_step(points, steps) == steps[2], "not of the method that is worse at the end"


@pytest.mark.parametrize(
    ("fewer", "more", "conclusion"),
    [
        (200, 260, "more labels helped"),
        (200, 202, "no significant difference on these test images"),
        (260, 200, "more labels reduced the accuracy"),
    ],
)
def test_what_is_said_follows_the_interval(fewer, more, conclusion):
    points = [point("fine_tuned", 100, fewer), point("fine_tuned", 250, more)]
    (step,) = label_steps(points)
    assert step.conclusion == conclusion
    line = step.line
    gained = 100 * (more - fewer) / IMAGES
    assert f"fine-tuned, from 100 to 250 labels (2.5 times as many), gained {gained:+.1f} (" in line
    assert line.endswith(f"points: {conclusion}. Beyond 250 labels nothing was measured.")


def test_without_predictions_of_the_same_images_there_is_no_interval():
    few, many = point("fine_tuned", 10, 200), point("fine_tuned", 100, 100, images=200)
    (step,) = label_steps([few, many])
    assert step.compared is None and step.conclusion.startswith("no interval")
    assert {*step.row()} == {"method", "fewer_labels", "more_labels", "gain"}
    assert "(" not in step.line.partition("gained")[2]
    (step,) = label_steps([LabelPoint("supervised", 10, 0.5), LabelPoint("supervised", 20, 0.25)])
    assert step.gain == -0.25 and step.compared is None


def test_one_number_of_labels_is_no_step():
    points = [point("fine_tuned", 10, 200), point("supervised", 10, 100)]
    assert label_steps(points) == [] and last_step(points, []) is None
