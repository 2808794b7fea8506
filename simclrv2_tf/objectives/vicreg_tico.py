"""VICReg with TiCo's covariance term, a combination from neither paper."""

import dataclasses

from simclrv2_tf.objectives import statistics
from simclrv2_tf.objectives.base import Tensor, float32
from simclrv2_tf.objectives.tico import TiCo, WithCovariance, check_with_covariance
from simclrv2_tf.objectives.vicreg import VICReg, invariance_and_variance
from simclrv2_tf.options import check_numbers, option, shared


def vicreg_tico(
    z1: Tensor,
    z2: Tensor,
    covariance: Tensor,
    beta: float = 0.9,
    invariance: float = 25.0,
    variance: float = 25.0,
    rho: float = 1.0,
    diagonal: bool = True,
    normalize: bool = False,
) -> tuple[Tensor, Tensor]:
    """VICReg with TiCo's covariance term instead of its own.

    A combination from neither paper: the invariance and variance terms of `vicreg`, plus

        rho * mean((z1 C) . z1),   C = beta * C_before + (1 - beta) * z1^T z1 / N,

    where z1 is not centered. The gradient flows into both occurrences of z1, but not into
    `covariance`.

    Views, covariance, result and errors are as for `tico`; without `diagonal` the loss can be
    negative.

    Args:
        invariance, variance, rho: The weights of the terms, finite, at least 0.
        diagonal: Whether the loss includes the diagonal of C. It holds the mean squares of z1,
            which the variance term increases. The returned C always has its diagonal.
        normalize: Whether to scale z1 to unit length in the covariance term, and so in C. The other
            terms use raw z: in d dimensions the deviations of unit vectors average at most 1 /
            sqrt(d) and could never reach the variance term's 1.
    """
    check_numbers(VICRegTiCo, invariance=invariance, variance=variance, rho=rho)
    z1, z2, covariance = check_with_covariance(z1, z2, covariance, beta)
    z1, z2 = statistics.gather_views(z1, z2)
    contrast, new_covariance = statistics.covariance_contrast(
        statistics.unit_rows(z1) if normalize else z1, covariance, beta, diagonal
    )
    centered = statistics.center(z1), statistics.center(z2)
    loss = invariance_and_variance(z1, z2, centered, invariance, variance)
    return loss + float32(rho) * contrast, new_covariance


@dataclasses.dataclass(frozen=True, eq=False)
class VICRegTiCo(WithCovariance):
    """`vicreg_tico` with fixed options and a running covariance, as an objective of pretraining."""

    summary = "vicreg with tico's covariance"
    smallest_batch = 2

    beta: float = shared(TiCo, "beta")
    invariance: float = shared(VICReg, "invariance")
    variance: float = shared(VICReg, "variance")
    rho: float = shared(VICReg, "covariance")
    diagonal: bool = option(
        True,
        "vicreg_tico: keep the diagonal of the running covariance, which counteracts the "
        "variance term.",
        flag="hybrid_diagonal",
    )
    normalize: bool = option(
        False,
        "vicreg_tico: L2-normalize the embeddings in the covariance term.",
        flag="hybrid_normalize",
    )

    def loss_and_covariance(self, z1, z2, covariance):
        weights = self.beta, self.invariance, self.variance, self.rho
        return vicreg_tico(z1, z2, covariance, *weights, self.diagonal, self.normalize)
