"""NT-Xent: the contrastive loss of SimCLR and SimCLRv2 (arXiv 2002.05709, 2006.10029)."""

import dataclasses

from etils import epy

from simclrv2_tf.objectives import statistics, streamed
from simclrv2_tf.objectives.base import Objective, Tensor, check_pair, check_shape, float32
from simclrv2_tf.options import check_numbers, of, option

with epy.lazy_imports():
    from keras import ops

    from simclrv2_tf import distribute


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
    check_numbers(NTXent, temperature=temperature)
    rule = dataclasses.replace(of(NTXent)["chunk_size"], minimum=1, optional=True)
    rule.check(chunk_size)
    z1, z2 = check_pair("embedding width", z1=z1, z2=z2)
    negatives, negatives_valid = _check_negatives(negatives, negatives_valid, z1)
    temperature = ops.cast(temperature, "float32")
    if normalize:
        z1, z2 = statistics.unit_rows(z1), statistics.unit_rows(z2)

    batch, width = ops.shape(z1)
    total = batch * distribute.replica_count()
    image = distribute.replica_id() * batch + ops.arange(batch)  # (b,), index in the global batch
    # Gathering forgets the static shape, by which blocks are sized; the reshape restores it.
    keys1, keys2 = (ops.reshape(z, (total, width)) for z in statistics.gather_views(z1, z2))
    keys = [keys1, keys2]  # (N, d) each
    # A negative of an anchor is a key of another image.
    key_image = [ops.arange(total), ops.arange(total)]
    if negatives is not None:
        keys.append(statistics.unit_rows(negatives) if normalize else negatives)
        key_image.append(ops.where(negatives_valid, streamed.NO_IMAGE, streamed.NO_KEY))
    keys = ops.concatenate(keys)  # (2N + K, d)
    key_image = ops.concatenate(key_image)  # (2N + K,)
    anchors = ops.concatenate([z1, z2]) / temperature  # (2b, d)
    anchor_image = ops.concatenate([image, image])  # (2b,)
    positive = ops.sum(anchors * ops.concatenate([z2, z1]), axis=-1)  # (2b,)

    if chunk_size is None:
        logits = ops.matmul(anchors, ops.transpose(keys))  # (2b, 2N + K)
        negative = ops.logsumexp(streamed.mask(logits, anchor_image, key_image), axis=-1)
        contrast = ops.stop_gradient(logits[:batch, total : 2 * total])  # (b, N)
        metrics = streamed.metrics_of(contrast, image)
    else:
        negative = streamed.logsumexp(anchors, keys, anchor_image, key_image, chunk_size)
        view1, view2 = ops.stop_gradient(anchors[:batch]), ops.stop_gradient(keys2)
        metrics = streamed.contrast_metrics(view1, view2, image, chunk_size)
    # log(exp(positive) + exp(negative)) - positive, without cancellation where the loss is small.
    per_anchor = ops.softplus(negative - positive)  # (2b,)
    return 2.0 * ops.mean(per_anchor), metrics


@dataclasses.dataclass(frozen=True)
class NTXent(Objective):
    """`nt_xent` with its options set: `loss, metrics = NTXent(temperature=0.1)(z1, z2)`."""

    summary = "SimCLR's contrastive loss"
    metric_names = ("contrast_accuracy", "contrast_entropy")
    takes_negatives = True

    temperature: float = option(
        0.1,
        "Softmax temperature of nt_xent; in distill that of teacher and student. In a run of "
        "several stages it is nt_xent's alone: --self_distilled.temperature (0.1 by default) and "
        "--small_student.temperature (1) are the students'.",
        positive=True,
    )
    normalize: bool = option(
        True, "nt_xent: L2-normalize the embeddings first.", flag="hidden_norm"
    )
    chunk_size: int = option(
        0,
        "nt_xent: compute the loss over blocks of this many rows, exactly and in less memory; 0: "
        "in one block.",
        minimum=0,
        incidental=True,
    )

    def __post_init__(self):
        if self.chunk_size is None:  # one block, as in `nt_xent`
            object.__setattr__(self, "chunk_size", 0)
        super().__post_init__()

    def __call__(self, z1, z2, training=False, negatives=None, negatives_valid=None):
        """(b, d), (b, d), (K, d), (K,) -> (loss, metrics), as `nt_xent`."""
        fields = self.temperature, self.normalize
        return nt_xent(z1, z2, *fields, negatives, negatives_valid, self.chunk_size or None)


def _check_negatives(negatives, valid, z1):
    """Returns both as tensors, float32 (K, d) and bool (K,); all are valid by default."""
    if negatives is None:
        if valid is not None:
            raise ValueError(
                "`negatives_valid` must come with `negatives`. Received: negatives=None, "
                f"negatives_valid={valid}"
            )
        return None, None
    negatives = float32(negatives)
    rule = "`negatives` must have the shape (K, embedding width)."
    check_shape(rule, (None, z1.shape[1]), negatives=negatives, z1=z1)
    if valid is None:
        return negatives, ops.ones_like(negatives[:, 0], dtype="bool")
    valid = ops.cast(ops.convert_to_tensor(valid), "bool")
    rule = (
        "`negatives_valid` must have the shape (K,) for `negatives` of shape (K, embedding width)."
    )
    check_shape(rule, negatives.shape[:1], negatives_valid=valid, negatives=negatives)
    return negatives, valid
