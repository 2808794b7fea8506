"""Barlow Twins: redundancy reduction between two views (arXiv 2103.03230)."""

import dataclasses

from etils import epy

from simclrv2_tf.objectives import statistics
from simclrv2_tf.objectives.base import Objective, Tensor, check_pair, float32
from simclrv2_tf.options import check_numbers, option

with epy.lazy_imports():
    from keras import ops


def barlow_twins(z1: Tensor, z2: Tensor, off_diagonal: float = 5e-3) -> Tensor:
    """Barlow Twins: drives the cross-correlation of the two views to the identity.

    Equations 1 and 2 of arXiv 2103.03230, over the N images of the global batch:

        L = sum_i (1 - c_ii)^2 + off_diagonal * sum_{i != j} c_ij^2,   c = s1^T s2 / N,

    where s1 and s2 are the columns of z1 and z2 standardized over the batch. As in the batch norm
    of the released code, the variance is biased and 1e-5 is added to it. So a constant column has
    correlation 0 with all others. In a global batch of one image all columns are constant: the loss
    is d, without gradient.

    Views, result and errors are as for `vicreg`.

    Args:
        off_diagonal: Weight of the off-diagonal entries, finite, at least 0. The paper's is 5e-3
            (0.0051 in the released code).
    """
    check_numbers(BarlowTwins, off_diagonal=off_diagonal)
    z1, z2 = statistics.gather_views(*check_pair("embedding width", z1=z1, z2=z2))
    correlation = statistics.mean_outer_product(  # (d, d)
        statistics.standardize(z1), statistics.standardize(z2)
    )
    identity = ops.sum(ops.square(1.0 - ops.diagonal(correlation)))
    redundancy = ops.sum(ops.square(statistics.without_diagonal(correlation)))
    return identity + float32(off_diagonal) * redundancy


@dataclasses.dataclass(frozen=True)
class BarlowTwins(Objective):
    """`barlow_twins` with a fixed weight, as an objective of pretraining."""

    summary = "the views' cross-correlation"
    smallest_batch = 2

    off_diagonal: float = option(
        5e-3,
        "Weight of barlow_twins's off-diagonal term.",
        flag="barlow_off_diagonal",
        minimum=0,
    )

    def __call__(self, z1, z2, training=False):
        return barlow_twins(z1, z2, self.off_diagonal), {}
