"""TiCo: transformation invariance and covariance contrast (arXiv 2206.10698)."""

from __future__ import annotations

import dataclasses
import numbers
from typing import Any, Self

from etils import epy

from simclrv2_tf.objectives import statistics
from simclrv2_tf.objectives.base import Objective, Tensor, check_pair, check_shape, float32
from simclrv2_tf.options import check_numbers, check_sizes, option, values

with epy.lazy_imports():
    import keras
    from keras import ops

    from simclrv2_tf import distribute


def tico(
    z1: Tensor,
    z2: Tensor,
    covariance: Tensor,
    beta: float = 0.9,
    rho: float = 8.0,
    into_covariance: bool = True,
) -> tuple[Tensor, Tensor]:
    """TiCo: transformation invariance and covariance contrast.

    arXiv 2206.10698, over the N images of the global batch, z1 and z2 scaled to unit length:

        C = beta * C_before + (1 - beta) * z1^T z1 / N
        L = -mean(z1 . z2) + rho * mean((z1 C) . z1).

    The gradient flows into z1 and z2, also through C, which depends on this batch's z1. The paper's
    pseudo-code does the same; its figure stops the gradient before C, like `into_covariance=False`.
    No gradient flows into `covariance` or through it into earlier batches. In the paper z2 comes
    from a moving average of the network: the caller must then stop its gradient.

    Views and errors are as for `vicreg`.

    Args:
        covariance: (d, d), C_before: the result of the previous step, the same on every replica;
            zeros in the first step.
        beta: Weight of C_before, from 0 to 1.
        rho: Weight of the covariance term, finite, at least 0.
        into_covariance: Whether the gradient flows through C into this batch's z1. The loss is the
            same.

    Returns:
        loss: () float32, at least -1.
        new_covariance: (d, d) float32, C: without gradient, the same on every replica.
    """
    check_numbers(TiCo, rho=rho)
    z1, z2, covariance = check_with_covariance(z1, z2, covariance, beta)
    z1, z2 = statistics.gather_views(statistics.unit_rows(z1), statistics.unit_rows(z2))
    contrast, new_covariance = statistics.covariance_contrast(
        z1, covariance, beta, into_covariance=into_covariance
    )
    loss = float32(rho) * contrast - ops.mean(ops.sum(z1 * z2, axis=-1))
    return loss, new_covariance


def check_with_covariance(z1, z2, covariance, beta):
    """Returns two views (b, d) and a covariance (d, d) as float32 tensors; checks `beta` too."""
    if isinstance(beta, numbers.Real) and not 0 <= beta <= 1:
        raise ValueError(f"`beta` must be from 0 to 1. Received: beta={beta!r}")
    z1, z2 = check_pair("embedding width", z1=z1, z2=z2)
    covariance, width = float32(covariance), z1.shape[1]
    rule = "`covariance` must have the shape (embedding width, embedding width)."
    check_shape(rule, (width, width), covariance=covariance, z1=z1)
    return z1, z2, covariance


@dataclasses.dataclass(frozen=True, eq=False)
class WithCovariance(Objective):
    """An objective with a running covariance (d, d), float32, zeros before the first step.

    The covariance belongs in a checkpoint. Create the objective under the strategy that uses it.
    `width` is d, the width of the embeddings, at least 1.
    """

    width: int
    covariance: keras.Variable = dataclasses.field(init=False, repr=False)

    def __post_init__(self):
        super().__post_init__()
        check_sizes(width=self.width)
        zeros = ops.zeros((self.width, self.width))
        covariance = distribute.equal_on_replicas(zeros, "covariance")
        object.__setattr__(self, "covariance", covariance)

    @classmethod
    def from_options(cls, flags: Any, width: int) -> Self:
        return cls(width, **values(flags, cls))

    @property
    def variables(self) -> dict[str, keras.Variable]:
        return {"covariance": self.covariance}

    def loss_and_covariance(self, z1, z2, covariance):
        """(b, d), (b, d), (d, d) -> the loss and the new covariance (d, d)."""
        raise NotImplementedError

    def __call__(self, z1, z2, training=False):
        loss, covariance = self.loss_and_covariance(z1, z2, self.covariance.value)
        if training:
            self.covariance.assign(covariance)
        return loss, {}


@dataclasses.dataclass(frozen=True, eq=False)
class TiCo(WithCovariance):
    """`tico` with fixed options and a running covariance, as an objective of pretraining."""

    summary = "invariance and the running covariance of the embeddings"

    beta: float = option(
        0.9,
        "Decay of the running covariance of tico and vicreg_tico.",
        flag="tico_beta",
        minimum=0,
        below=1,
    )
    rho: float = option(8.0, "Weight of tico's covariance term.", flag="tico_rho", minimum=0)
    momentum_views: bool = option(
        False,
        "tico: take the second view's embeddings from a momentum network (`ema_decay`), as in the "
        "paper, instead of the network itself.",
        flag="tico_momentum_views",
    )

    into_covariance: bool = option(
        True,
        "tico: let the gradient flow through the covariance into this batch's embeddings, as in "
        "the paper's pseudo-code; the paper's figure stops the gradient.",
        flag="tico_into_covariance",
    )

    def loss_and_covariance(self, z1, z2, covariance):
        return tico(z1, z2, covariance, self.beta, self.rho, self.into_covariance)
