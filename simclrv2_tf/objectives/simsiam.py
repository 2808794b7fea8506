"""SimSiam: the prediction of the other view's embedding (arXiv 2011.10566)."""

import dataclasses

from etils import epy

from simclrv2_tf.objectives import prediction
from simclrv2_tf.objectives.base import Tensor

with epy.lazy_imports():
    from keras import ops


def simsiam(p1: Tensor, p2: Tensor, targets: tuple[Tensor, Tensor]) -> Tensor:
    """SimSiam's loss: each view predicts the network's own embedding of the other.

    Equation 4 of arXiv 2011.10566, averaged over the N images,

        L = -(cos(p1, stop_gradient(z2)) + cos(p2, stop_gradient(z1))) / 2.

    Args:
        p1, p2: (b, d), the predictor's outputs for views 1 and 2 of the same images.
        targets: z1, z2, (b, d) each: the network's embeddings of the same views, not normalized.
            They receive no gradient.

    Returns:
        () float32, from -1 to 1. The cosine with a row of zeros is 0.

    Raises:
        ValueError: the shapes differ, or are not (b, d).
    """
    first, second = prediction.cosines(p1, p2, targets)
    return -0.5 * ops.mean(first + second)


@dataclasses.dataclass(frozen=True)
class SimSiam(prediction.Prediction):
    """`simsiam` as an objective of pretraining."""

    summary = "the prediction of the other view's embedding"
    predictor_rate_decays = False

    @staticmethod
    def predictor_width(hidden_dim: int, width: int) -> int:
        """A quarter of the embedding's width."""
        return max(width // 4, 1)

    def __call__(self, z1, z2, training=False, targets=None):
        """(b, d), (b, d), two (b, d) -> (loss, {}), as `simsiam`."""
        return simsiam(z1, z2, targets), {}
