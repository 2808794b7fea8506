"""VICReg: variance, invariance and covariance regularization (arXiv 2105.04906)."""

import dataclasses

from etils import epy

from simclrv2_tf.objectives import statistics
from simclrv2_tf.objectives.base import Objective, Tensor, check_pair, float32
from simclrv2_tf.options import check_numbers, option

with epy.lazy_imports():
    from keras import ops


def vicreg(
    z1: Tensor,
    z2: Tensor,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
) -> Tensor:
    """VICReg: variance, invariance and covariance regularization.

    Equations 1 to 6 of arXiv 2105.04906 in the form of the released code, over the N images of the
    global batch; C(z) is the covariance of the columns of z, with N - 1 in the denominator:

        invariance * mean((z1 - z2)^2)
        + variance * 1/2 sum_{z in z1, z2} mean_i max(0, 1 - sqrt(C(z)_ii + 1e-4))
        + covariance * sum_{z in z1, z2} 1/d sum_{i != j} C(z)_ij^2.

    In the paper the first term is d times as large, because its mean is only over images, and the
    second has no factor 1/2. The published weights are for the form used here.

    A global batch of one image has variance and covariance 0 (the denominator is at least 1): the
    variance term is then 0.99 times its weight, without gradient.

    Args:
        z1: (b, d), embeddings of view 1 of this replica's images, not normalized.
        z2: (b, d), embeddings of view 2 of the same images, in the same order.
        invariance, variance, covariance: The weights of the terms, finite, at least 0.

    Returns:
        () float32, at least 0.

    Raises:
        ValueError: the shapes do not match, or a weight is out of range.
    """
    check_numbers(VICReg, invariance=invariance, variance=variance, covariance=covariance)
    z1, z2 = statistics.gather_views(*check_pair("embedding width", z1=z1, z2=z2))
    centered = statistics.center(z1), statistics.center(z2)
    energy = sum(map(statistics.covariance_energy, centered))
    loss = invariance_and_variance(z1, z2, centered, invariance, variance)
    return loss + float32(covariance) * energy


def invariance_and_variance(z1, z2, centered, invariance, variance):
    """Returns the first two terms of `vicreg`, for (N, d) and their centered forms: () float32."""
    distance = ops.mean(ops.square(z1 - z2))
    hinge = statistics.variance_hinge(*centered)
    return float32(invariance) * distance + float32(variance) * hinge


def _weight(default: float, term: str):
    help = f"Weight of the {term} term of vicreg and vicreg_tico."
    return option(default, help, flag=f"vicreg_{term}", minimum=0)


@dataclasses.dataclass(frozen=True)
class VICReg(Objective):
    """`vicreg` with fixed weights, as an objective of pretraining."""

    summary = "variance, invariance, covariance"
    smallest_batch = 2

    invariance: float = _weight(25.0, "invariance")
    variance: float = _weight(25.0, "variance")
    covariance: float = _weight(1.0, "covariance")

    def __call__(self, z1, z2, training=False):
        return vicreg(z1, z2, self.invariance, self.variance, self.covariance), {}
