"""BYOL: the prediction of a momentum network's embeddings (arXiv 2006.07733)."""

import dataclasses

from etils import epy

from simclrv2_tf.objectives import prediction
from simclrv2_tf.objectives.base import Tensor

with epy.lazy_imports():
    from keras import ops


def byol(p1: Tensor, p2: Tensor, targets: tuple[Tensor, Tensor]) -> Tensor:
    """BYOL's loss: each view predicts the momentum network's embedding of the other.

    Equation 2 of arXiv 2006.07733, summed over both directions and averaged over the N images,

        L = mean(2 - 2 cos(p1, t2)) + mean(2 - 2 cos(p2, t1)).

    Args:
        p1, p2: (b, d), the predictor's outputs for views 1 and 2 of the same images.
        targets: t1, t2, (b, d) each: the momentum network's embeddings of the same views, not
            normalized. They receive no gradient.

    Returns:
        () float32, from 0 to 8. The cosine with a row of zeros is 0.

    Raises:
        ValueError: the shapes differ, or are not (b, d).
    """
    first, second = prediction.cosines(p1, p2, targets)
    return ops.mean((2.0 - 2.0 * first) + (2.0 - 2.0 * second))


@dataclasses.dataclass(frozen=True)
class BYOL(prediction.Prediction):
    """`byol` as an objective of pretraining."""

    summary = "the prediction of a momentum network's embeddings"
    momentum_targets = True

    @staticmethod
    def predictor_width(hidden_dim: int, width: int) -> int:
        """As wide as the head's hidden layers."""
        return hidden_dim

    def __call__(self, z1, z2, training=False, targets=None):
        """(b, d), (b, d), two (b, d) -> (loss, {}), as `byol`."""
        return byol(z1, z2, targets), {}
