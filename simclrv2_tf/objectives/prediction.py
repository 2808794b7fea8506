"""Shared parts of objectives with a predictor: the contract, and the cosines with targets."""

from etils import epy

from simclrv2_tf.objectives import statistics
from simclrv2_tf.objectives.base import Objective, Tensor, check_pair, check_shape

with epy.lazy_imports():
    from keras import ops


class Prediction(Objective):
    """An objective that compares a predictor's outputs with targets, which receive no gradient.

    A call takes the predictor's outputs instead of the embeddings, and `targets`.
    """

    takes_targets = True

    @staticmethod
    def predictor_width(hidden_dim: int, width: int) -> int:
        """Returns the default width of the predictor's hidden layer.

        Args:
            hidden_dim: Width of the projection head's hidden layers.
            width: d, the width of the embeddings.
        """
        raise NotImplementedError


def cosines(p1: Tensor, p2: Tensor, targets: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Returns the cosines (b,) of p1 with the second target and of p2 with the first."""
    p1, p2 = check_pair("embedding width", p1=p1, p2=p2)
    if not isinstance(targets, tuple | list) or len(targets) != 2:
        raise ValueError(
            "`targets` must be a pair, the embeddings of view 1 and of view 2. "
            f"Received: targets={targets!r}"
        )
    t1, t2 = check_pair("embedding width", target1=targets[0], target2=targets[1])
    rule = "`targets` must have the shape of the predictions, (examples, embedding width)."
    check_shape(rule, p1.shape, target1=t1, p1=p1)
    p1, p2, t1, t2 = (statistics.unit_rows(x) for x in (p1, p2, t1, t2))
    t1, t2 = ops.stop_gradient(t1), ops.stop_gradient(t2)
    return ops.sum(p1 * t2, axis=-1), ops.sum(p2 * t1, axis=-1)
