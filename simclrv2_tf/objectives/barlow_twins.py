"""Barlow Twins: redundancy reduction between two views (arXiv 2103.03230)."""

from __future__ import annotations

import dataclasses

from etils import epy

from simclrv2_tf.objectives import statistics
from simclrv2_tf.objectives.base import Objective, Tensor, check_views, float32
from simclrv2_tf.options import check_numbers, option

with epy.lazy_imports():
    from keras import ops


def barlow_twins(z1: Tensor, z2: Tensor, off_diagonal: float = 5e-3) -> Tensor:
    """Barlow Twins: the cross-correlation of the two views is to be the identity.

    Equations 1 and 2 of arXiv 2103.03230, over the N images of the global batch:

        L = sum_i (1 - c_ii)^2 + off_diagonal * sum_{i != j} c_ij^2,   c = s1^T s2 / N,

    where s1 and s2 are the columns of z1 and z2 standardized over the batch. As in the released
    code, whose batch norm does that, the variance is biased and 1e-5 is added to it: a column that
    does not vary has correlation 0 with all others, and so has a global batch of one image, whose
    loss is d, without gradient.

    Args:
        z1: (b, d), embeddings of view 1 of this replica's images, not normalized.
        z2: (b, d), embeddings of view 2 of the same images, in the same order.
        off_diagonal: Weight of the off-diagonal entries, finite, at least 0. The paper's is 5e-3
            (0.0051 in the released code).

    Returns:
        () float32, at least 0.

    Raises:
        ValueError: shapes that do not fit, or `off_diagonal` out of range.
    """
    check_numbers(BarlowTwins, off_diagonal=off_diagonal)
    z1, z2 = map(statistics.standardize, statistics.gather_views(*check_views(z1, z2)))
    correlation = statistics.mean_outer_product(z1, z2)  # (d, d)
    identity = ops.sum(ops.square(1.0 - ops.diagonal(correlation)))
    redundancy = ops.sum(ops.square(statistics.without_diagonal(correlation)))
    return identity + float32(off_diagonal) * redundancy


@dataclasses.dataclass(frozen=True)
class BarlowTwins(Objective):
    """`barlow_twins` with its weight set, as an objective of pretraining."""

    summary = "the views' cross-correlation"
    smallest_batch = 2

    off_diagonal: float = option(
        5e-3,
        "Weight of barlow_twins's off-diagonal term.",
        flag="barlow_off_diagonal",
        minimum=0,
    )

    def __call__(self, z1, z2, training=False):
        """(b, d), (b, d) -> (loss, {})."""
        return barlow_twins(z1, z2, self.off_diagonal), {}
