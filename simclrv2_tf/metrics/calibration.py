"""The expected calibration error (Guo et al., ICML 2017, arXiv 1706.04599, section 2)."""

import keras
from keras import ops


class Calibration(keras.metrics.Metric):
    """The mean distance between a classifier's confidence and accuracy over bins (equation 3).

    An example's confidence is its largest softmax probability. Bin k of m holds the confidences
    in (k/m, (k+1)/m]. Ties predict the first class, as in Keras's accuracy. A logit
    that is NaN or +infinity makes the result NaN. The state is float32 sums per bin, summed over
    replicas: counts saturate at 2^24 examples per bin and replica.

    Args:
        num_bins: Bins of equal width over [0, 1]; the paper's experiments have 15.
        name: The metric's name in a stage's results.

    Raises:
        ValueError: `num_bins` is not a positive integer.
    """

    def __init__(self, num_bins: int = 15, name: str = "expected_calibration_error"):
        if not isinstance(num_bins, int) or num_bins < 1:
            raise ValueError(
                f"`num_bins` must be a positive integer. Received: num_bins={num_bins!r}"
            )
        super().__init__(name=name, dtype="float32")
        self.num_bins = num_bins
        self.edges = [index / num_bins for index in range(num_bins + 1)]
        self.counts, self.confidence_sums, self.correct_sums = (
            self.add_variable((num_bins,), "zeros", "float32", aggregation="sum", name=name)
            for name in ("counts", "confidence_sums", "correct_sums")
        )

    def update_state(self, labels, logits, sample_weight=None):
        """Adds a batch: `labels` (b,), integers in [0, C), and `logits` (b, C).

        `sample_weight` (b,) is 0 for the padding of a last batch.

        Raises:
            ValueError: an argument has another rank.
        """
        logits, labels = ops.cast(logits, "float32"), ops.convert_to_tensor(labels)
        weights = ops.ones_like(logits[:, 0]) if sample_weight is None else sample_weight
        weights = ops.cast(weights, "float32")
        # (b, 1) labels or weights would broadcast to (b, b) below.
        if (len(labels.shape), len(logits.shape), len(weights.shape)) != (1, 2, 1):
            raise ValueError(
                "`labels` and `sample_weight` must be (b,), `logits` (b, C). Received: "
                f"labels.shape={labels.shape}, logits.shape={logits.shape}, "
                f"sample_weight.shape={weights.shape}"
            )
        correct = ops.cast(ops.argmax(logits, -1), "int32") == ops.cast(labels, "int32")  # (b,)
        # The largest softmax probability: numerator exp(0), denominator at least 1.
        shifted = logits - ops.max(logits, -1, keepdims=True)
        confidence = 1.0 / ops.sum(ops.exp(shifted), -1)  # (b,)
        lower = ops.convert_to_tensor(self.edges[:-1], "float32")
        upper = ops.convert_to_tensor(self.edges[1:], "float32")
        inside = (confidence[:, None] > lower) & (confidence[:, None] <= upper)
        weighted = ops.cast(inside, "float32") * weights[:, None]  # (b, m)
        # Sums, not matrix products, whose operands accelerators round.
        self.counts.assign_add(ops.sum(weighted, 0))
        self.confidence_sums.assign_add(ops.sum(weighted * confidence[:, None], 0))
        self.correct_sums.assign_add(ops.sum(weighted * ops.cast(correct, "float32")[:, None], 0))

    def result(self):
        """Returns equation 3 for all batches since the last reset: () float32 in [0, 1]."""
        # In sums over a bin, |B| / n * |accuracy - confidence| is |correct - confidence sum| / n.
        gaps = ops.abs(self.correct_sums - self.confidence_sums)  # (m,)
        return ops.divide_no_nan(ops.sum(gaps), ops.sum(self.counts))

    def bins(self) -> list[dict[str, float | None]]:
        """Returns the contents of a reliability diagram, for JSON and `report.reliability_figure`.

        Each bin has `lower` and `upper` edge, `count` (sum of weights), and mean `confidence` and
        `accuracy` in [0, 1], both None if the count is 0.
        """
        sums = (
            ops.convert_to_numpy(variable).astype(float).tolist()
            for variable in (self.counts, self.confidence_sums, self.correct_sums)
        )
        return [
            {
                "lower": lower,
                "upper": upper,
                "count": count,
                "confidence": confidence / count if count else None,
                "accuracy": correct / count if count else None,
            }
            for lower, upper, count, confidence, correct in zip(
                self.edges[:-1], self.edges[1:], *sums, strict=True
            )
        ]

    def get_config(self):
        return {"num_bins": self.num_bins, "name": self.name}
