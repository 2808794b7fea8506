"""Expected calibration error: against loops from arXiv 1706.04599, over batches."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers.objectives_on_replicas import logits_of
from simclrv2_tf.metrics import Calibration


def loops(labels, logits, weights=None, num_bins=15):
    """Section 2 and equation 3 of the paper, example by example, in float64."""
    logits = np.asarray(logits, np.float64)
    weights = np.ones(len(labels)) if weights is None else weights
    bins = [[] for _ in range(num_bins)]
    for label, row, weight in zip(labels, logits, weights, strict=True):
        largest = max(row)
        exponentials = [np.exp(value - largest) for value in row]
        probabilities = [value / sum(exponentials) for value in exponentials]
        confidence = max(probabilities)
        prediction = probabilities.index(confidence)
        for index in range(num_bins):
            if index / num_bins < confidence <= (index + 1) / num_bins:
                bins[index].append((weight, float(prediction == label), confidence))
    total = sum(weights)
    error = 0.0
    for members in bins:
        size = sum(weight for weight, _, _ in members)
        if size == 0:
            continue
        accuracy = sum(weight * correct for weight, correct, _ in members) / size
        confidence = sum(weight * value for weight, _, value in members) / size
        error += size / total * abs(accuracy - confidence)
    return error


def measured(labels, logits, weights=None, num_bins=15):
    metric = Calibration(num_bins)
    metric.update_state(labels, logits, weights)
    return metric


@pytest.mark.parametrize("num_bins", [1, 7, 15])
@pytest.mark.parametrize(
    ("count", "classes", "scale"), [(200, 10, 2.0), (1, 5, 1.0), (50, 2, 1.0), (64, 200, 4.0)]
)
def test_equals_loops(count, classes, scale, num_bins):
    labels, logits = logits_of(count, classes, scale)
    expected = loops(labels, logits, num_bins=num_bins)
    assert expected > 0.01
    assert float(measured(labels, logits, num_bins=num_bins).result()) == pytest.approx(
        expected, rel=2e-5
    )


def test_weights_and_padding():
    labels, logits = logits_of(90, 6, 2.0)
    weights = np.random.default_rng(1).uniform(0.5, 2, 90)
    weights[60:] = 0
    error = float(measured(labels, logits, weights).result())
    assert error == pytest.approx(loops(labels, logits, weights), rel=2e-5)
    assert error == pytest.approx(loops(labels[:60], logits[:60], weights[:60]), rel=2e-5)
    assert abs(error - loops(labels, logits)) > 0.01


@pytest.mark.parametrize("wrong", [0, 3])
def test_one_class_is_certain(wrong):
    labels = np.array([1] * wrong + [0] * (8 - wrong))
    metric = measured(labels, np.full((8, 1), -3.0))
    assert float(metric.result()) == wrong / 8
    assert metric.bins()[-1] == {
        "lower": 14 / 15, "upper": 1.0, "count": 8.0, "confidence": 1.0, "accuracy": 1 - wrong / 8
    }  # fmt: skip


@pytest.mark.parametrize(
    ("classes", "num_bins", "holder"),
    # Confidence 1/classes is the upper edge of its bin, or within it.
    [
        (2, 15, 7),
        (2, 10, 4),
        (4, 4, 0),
        (4, 20, 4),
        (4, 15, 3),
        (5, 15, 2),
        (3, 15, 4),
        (10, 10, 0),
    ],
)
def test_ties_and_edges(classes, num_bins, holder):
    labels = np.arange(3 * classes) % classes
    metric = measured(labels, np.full((3 * classes, classes), 0.7), num_bins=num_bins)
    counts = [entry["count"] for entry in metric.bins()]
    assert counts == [3.0 * classes if index == holder else 0.0 for index in range(num_bins)]
    # The first class is predicted, and right once in `classes` times: confidence is accuracy.
    assert metric.bins()[holder]["accuracy"] == pytest.approx(1 / classes)
    assert float(metric.result()) == pytest.approx(0, abs=1e-6)
    metric = measured(np.zeros(4, int), np.zeros((4, classes)), num_bins=num_bins)
    assert float(metric.result()) == pytest.approx(1 - 1 / classes)


def test_huge_logits_are_certain():
    logits = 1e4 * np.eye(3)[[0, 1, 2, 0]]
    assert float(measured([0, 1, 2, 0], logits).result()) == 0
    assert float(measured([0, 1, 2, 1], logits).result()) == 0.25
    assert float(measured([0, 1, 2, 1], -logits).result()) == pytest.approx(
        loops([0, 1, 2, 1], -logits)
    )


def test_a_logit_that_is_not_finite_shows():
    labels, logits = logits_of(5, 3, 1.0)
    for value in (np.nan, np.inf):
        logits[2, 1] = value
        assert np.isnan(float(measured(labels, logits).result()))
    logits[2, 1] = -np.inf
    assert float(measured(labels, logits).result()) == pytest.approx(loops(labels, logits))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_computes_in_float32(dtype):
    labels, logits = logits_of(300, 10, 3.0)
    logits = tf.cast(logits, dtype)
    metric = measured(labels, logits)
    assert float(metric.result()) == pytest.approx(
        loops(labels, tf.cast(logits, "float64").numpy()), rel=2e-5
    )
    assert [keras.backend.standardize_dtype(v.dtype) for v in metric.variables] == ["float32"] * 3


def test_batches_add_and_reset_forgets():
    labels, logits = logits_of(100, 4, 2.0)
    metric = Calibration()
    assert float(metric.result()) == 0
    for _ in range(2):
        metric.reset_state()
        for begin, end in ((0, 1), (1, 38), (38, 100)):
            metric.update_state(labels[begin:end], logits[begin:end])
        assert float(metric.result()) == pytest.approx(loops(labels, logits), rel=2e-5)
        assert sum(entry["count"] for entry in metric.bins()) == 100


def test_bins_hold_what_the_error_is_made_of():
    labels, logits = logits_of(200, 10, 2.0)
    metric = measured(labels, logits)
    bins = json.loads(json.dumps(metric.bins()))
    assert [entry["lower"] for entry in bins[1:]] == [entry["upper"] for entry in bins[:-1]]
    assert (bins[0]["lower"], bins[-1]["upper"]) == (0, 1)
    filled = [entry for entry in bins if entry["count"]]
    assert 3 < len(filled) < 15
    for entry in bins:
        if entry["count"]:
            assert entry["lower"] < entry["confidence"] <= entry["upper"]
        else:
            assert entry["confidence"] is None and entry["accuracy"] is None
    gaps = sum(entry["count"] * abs(entry["accuracy"] - entry["confidence"]) for entry in filled)
    assert gaps / 200 == pytest.approx(float(metric.result()), rel=1e-5)
    accuracy = sum(entry["count"] * entry["accuracy"] for entry in filled) / 200
    assert accuracy == pytest.approx(np.mean(logits.argmax(1) == labels))


def test_calibrated_and_overconfident_labels():
    rng = np.random.default_rng(3)
    probability = rng.uniform(0.5, 0.95, 40_000)
    logits = np.stack([np.log(probability), np.log1p(-probability)], 1)
    draw = rng.random(len(probability))
    assert float(measured((draw > probability).astype(int), logits).result()) < 0.01
    # Right 0.2 less often than the confidence says.
    error = float(measured((draw > probability - 0.2).astype(int), logits).result())
    assert error == pytest.approx(0.2, abs=0.01)


def test_compiles_and_copies():
    labels, logits = logits_of(32, 5, 2.0)
    metric = Calibration()
    update = tf.function(metric.update_state, jit_compile=True)
    update(tf.constant(labels), tf.constant(logits), tf.ones(32))
    assert float(metric.result()) == pytest.approx(loops(labels, logits), rel=2e-5)
    copy = Calibration.from_config(Calibration(4, "ece").get_config())
    assert (copy.num_bins, copy.name) == (4, "ece")


@pytest.mark.parametrize("num_bins", [0, -1, 1.5])
def test_bins_are_positive(num_bins):
    with pytest.raises(ValueError, match=r"`num_bins` must be .* Received: num_bins="):
        Calibration(num_bins)


@pytest.mark.parametrize("shapes", [((4, 1), (4, 3), (4,)), ((4,), (4, 3), (4, 1))])
def test_ranks(shapes):
    labels, logits, weights = (np.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError, match=r"must be \(b,\)"):
        Calibration().update_state(labels, logits, weights)
