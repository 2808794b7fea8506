"""NT-Xent: the contrastive loss of SimCLR and SimCLRv2 (arXiv 2002.05709, 2006.10029)."""

import dataclasses

from etils import epy

from simclrv2_tf.objectives import contrast
from simclrv2_tf.objectives.base import Tensor

with epy.lazy_imports():
    from keras import ops


def nt_xent(
    z1: Tensor,
    z2: Tensor,
    temperature: float = 0.1,
    normalize: bool = True,
    negatives: Tensor | None = None,
    negatives_valid: Tensor | None = None,
    chunk_size: int | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """NT-Xent, the normalized temperature-scaled cross entropy of SimCLR.

    Equation 1 of both papers (arXiv 2002.05709, 2006.10029): every view must identify the other
    view of its image among all other views of the global batch,

        l(i, j) = -log( exp(sim(z_i, z_j) / t) / sum_{k != i} exp(sim(z_i, z_k) / t) ).

    As in the released code, the value is the sum of the two directions, averaged over the N images.
    This is **twice** the papers' mean over the 2N views, and the published learning rates assume
    it.

    Args:
        z1: (b, d), embeddings of view 1 of this replica's images, not normalized.
        z2: (b, d), embeddings of view 2 of the same images, in the same order.
        temperature: t, above 0. A tensor receives gradient.
        normalize: Whether to scale embeddings (and `negatives`) to unit length: `sim` is then the
            cosine, otherwise the dot product.
        negatives: (K, d), additional negatives for every anchor of both directions, such as a
            memory of past embeddings. They are normalized too, but not gathered: each replica uses
            its own. They receive gradient, unless the caller stops it.
        negatives_valid: (K,) bool, which of `negatives` to use; all by default.
        chunk_size: Keys per block, at least 1. None keeps the whole (2b, 2N + K) matrix of logits.
            A number streams over blocks of (2b, chunk_size), which the backward pass recomputes:
            same value, gradient and metrics, memory linear in N, about 1.5 times the computation.
            It need not divide anything. Only first derivatives are supported.

    Returns:
        loss: () float32, at least 0.
        metrics: without gradient, for this replica's view 1 against all N views 2, as in the
            reference: `contrast_accuracy` () in [0, 1], the share of images whose own view 2 scores
                highest; `contrast_entropy` () in nats, the mean entropy of the softmax, from 0 to
                log(N).

    Raises:
        ValueError: the shapes do not match, `temperature` or `chunk_size` is out of range, or
            `negatives_valid` is given without `negatives`.
    """
    logits = contrast.logits(z1, z2, temperature, normalize, negatives, negatives_valid, chunk_size)
    # log(exp(positive) + exp(negative)) - positive, without cancellation if the loss is small.
    per_anchor = ops.softplus(logits.negative - logits.positive)  # (2b,)
    return 2.0 * ops.mean(per_anchor), logits.metrics


@dataclasses.dataclass(frozen=True)
class NTXent(contrast.Contrastive):
    """`nt_xent` with fixed options: `loss, metrics = NTXent(temperature=0.1)(z1, z2)`."""

    summary = "SimCLR's contrastive loss"

    def __call__(self, z1, z2, training=False, negatives=None, negatives_valid=None):
        """(b, d), (b, d), (K, d), (K,) -> (loss, metrics), as `nt_xent`."""
        fields = self.temperature, self.normalize
        return nt_xent(z1, z2, *fields, negatives, negatives_valid, self.chunk_size or None)
