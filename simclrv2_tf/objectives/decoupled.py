"""The decoupled contrastive loss (arXiv 2110.06848): NT-Xent without the positive in the sum."""

import dataclasses

from etils import epy

from simclrv2_tf.objectives import contrast
from simclrv2_tf.objectives.base import Tensor, float32
from simclrv2_tf.options import check_numbers, option

with epy.lazy_imports():
    from keras import ops

# Below any logsumexp of logits, above the logit of a key that is not a negative.
_NO_NEGATIVE = -1e29


def decoupled(
    z1: Tensor,
    z2: Tensor,
    temperature: float = 0.1,
    normalize: bool = True,
    weighted: bool = False,
    sigma: float = 0.5,
    negatives: Tensor | None = None,
    negatives_valid: Tensor | None = None,
    chunk_size: int | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The decoupled contrastive loss, DCL, and its weighted form, DCLW.

    Equations 5 and 6 of arXiv 2110.06848: NT-Xent without the positive in the denominator, so that
    an image whose views are already close still learns from its negatives,

        l(i, j) = -w_i sim(z_i, z_j) / t + log sum_{k != i, j} exp(sim(z_i, z_k) / t),

    with w = 1, or with `weighted` the negative von Mises-Fisher weight of the image among the N of
    the global batch, which also receives gradient,

        w_i = 2 - exp(sim(z_i, z_j) / s) / mean_n exp(sim(z_n, z_n') / s).

    The value has the scale of `nt_xent`: the sum of the two directions, averaged over the N images.
    If a view has no negative, the second term is omitted.

    Views, metrics, the other arguments and errors are as for `nt_xent`.

    Args:
        weighted: Whether images whose views are far apart have more weight.
        sigma: s, above 0: a smaller value makes the weights differ more.

    Returns:
        loss: () float32, of either sign.
        metrics: as for `nt_xent`.
    """
    check_numbers(Decoupled, sigma=sigma)
    logits = contrast.logits(z1, z2, temperature, normalize, negatives, negatives_valid, chunk_size)
    positive = logits.positive
    if weighted:
        similarities = logits.positives / float32(sigma)  # (N,)
        log_mean = ops.logsumexp(similarities) - ops.log(float32(ops.shape(similarities)[0]))
        own = positive * float32(temperature) / float32(sigma)  # (2b,)
        positive = positive * (2.0 - ops.exp(own - log_mean))
    negative = ops.where(logits.negative > _NO_NEGATIVE, logits.negative, 0.0)
    return 2.0 * ops.mean(negative - positive), logits.metrics


@dataclasses.dataclass(frozen=True)
class Decoupled(contrast.Contrastive):
    """`decoupled` with fixed options: `loss, metrics = Decoupled(temperature=0.1)(z1, z2)`."""

    summary = "nt_xent without the positive in the denominator, for small batches"
    smallest_batch = 2

    weighted: bool = option(
        False,
        "decoupled: weight the positives, so that images whose views are far apart count more.",
        flag="decoupled_weighted",
    )
    sigma: float = option(
        0.5,
        "decoupled: scale of the similarity in the weights; a smaller value makes them differ "
        "more.",
        flag="decoupled_sigma",
        positive=True,
    )

    def __call__(self, z1, z2, training=False, negatives=None, negatives_valid=None):
        """(b, d), (b, d), (K, d), (K,) -> (loss, metrics), as `decoupled`."""
        fields = self.temperature, self.normalize, self.weighted, self.sigma
        return decoupled(z1, z2, *fields, negatives, negatives_valid, self.chunk_size or None)
