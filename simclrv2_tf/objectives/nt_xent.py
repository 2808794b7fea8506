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

    Equation 1 of both papers (arXiv 2002.05709, 2006.10029): every view has to pick the other view
    of its image among all other views of the global batch,

        l(i, j) = -log( exp(sim(z_i, z_j) / t) / sum_{k != i} exp(sim(z_i, z_k) / t) ).

    The value is the released code's: the sum of the two directions, averaged over the N images.
    That is **twice** the papers' mean over the 2N views; the published learning rates belong to it.

    Args:
        z1: (b, d), embeddings of view 1 of this replica's images, not normalized.
        z2: (b, d), embeddings of view 2 of the same images, in the same order.
        temperature: t, above 0. A tensor gets its gradient.
        normalize: Whether embeddings (and `negatives`) are scaled to unit length, which makes `sim`
            the cosine; otherwise it is the dot product.
        negatives: (K, d), more negatives for every anchor of both directions, such as a memory of
            past embeddings, normalized here too. They are not gathered: each replica uses its own.
            Gradients flow into them; stop them outside where that is not wanted.
        negatives_valid: (K,) bool, which of `negatives` count; all by default.
        chunk_size: Keys per block, at least 1. None holds the (2b, 2N + K) matrix of logits. A
            number streams over blocks of (2b, chunk_size), computed again in the backward pass:
            same value, gradient and metrics, memory linear in N, about half as much computation
            again. It need not divide anything. First derivatives only.

    Returns:
        loss: () float32, at least 0.
        metrics: without gradient, of this replica's view 1 against all N views 2, as in the
            reference: `contrast_accuracy` () in [0, 1], how often the image's own view 2 scores
            highest; `contrast_entropy` () in nats, mean entropy of the softmax, from 0 to log(N).

    Raises:
        ValueError: shapes that do not fit, `temperature` or `chunk_size` out of range, or
            `negatives_valid` without `negatives`.
    """
    logits = contrast.logits(z1, z2, temperature, normalize, negatives, negatives_valid, chunk_size)
    # log(exp(positive) + exp(negative)) - positive, without cancellation where the loss is small.
    per_anchor = ops.softplus(logits.negative - logits.positive)  # (2b,)
    return 2.0 * ops.mean(per_anchor), logits.metrics


@dataclasses.dataclass(frozen=True)
class NTXent(contrast.Contrastive):
    """`nt_xent` with its options set: `loss, metrics = NTXent(temperature=0.1)(z1, z2)`."""

    summary = "SimCLR's contrastive loss"

    def __call__(self, z1, z2, training=False, negatives=None, negatives_valid=None):
        """(b, d), (b, d), (K, d), (K,) -> (loss, metrics), as `nt_xent`."""
        fields = self.temperature, self.normalize
        return nt_xent(z1, z2, *fields, negatives, negatives_valid, self.chunk_size or None)
