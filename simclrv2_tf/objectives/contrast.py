"""Shared parts of contrastive losses: options, and the logits of positives and negatives."""

import dataclasses
from typing import NamedTuple

from etils import epy

from simclrv2_tf.objectives import statistics, streamed
from simclrv2_tf.objectives.base import Objective, Tensor, check_pair, check_shape, float32
from simclrv2_tf.options import check_numbers, of, option

with epy.lazy_imports():
    from keras import ops

    from simclrv2_tf import distribute


@dataclasses.dataclass(frozen=True)
class Contrastive(Objective):
    """The options of a contrastive loss."""

    metric_names = ("contrast_accuracy", "contrast_entropy")
    takes_negatives = True

    temperature: float = option(
        0.1,
        "Softmax temperature of nt_xent and decoupled; in distill, of teacher and student. In a "
        "run of several stages it only applies to the objective; use --self_distilled.temperature "
        "(default: 0.1) and --small_student.temperature (default: 1) for the students.",
        positive=True,
    )
    normalize: bool = option(
        True, "nt_xent and decoupled: L2-normalize the embeddings first.", flag="hidden_norm"
    )
    chunk_size: int = option(
        0,
        "nt_xent and decoupled: compute the loss in blocks of this many rows, with the same result "
        "and less memory; 0: in one block.",
        minimum=0,
        incidental=True,
    )

    def __post_init__(self):
        if self.chunk_size is None:  # one block, as in `nt_xent`
            object.__setattr__(self, "chunk_size", 0)
        super().__post_init__()


class Logits(NamedTuple):
    """Similarities divided by the temperature, for the 2b views of this replica's b images.

    Attributes:
        positive: (2b,), similarity to the other view of the image; view 1 of all images, then view
            2.
        negative: (2b,), logsumexp over the views of other images and the valid extra negatives;
            -1e30 if a view has none.
        positives: (N,), the similarities of the two views of all images of the global batch, not
            divided by the temperature.
        metrics: The metrics of `nt_xent`.
    """

    positive: Tensor
    negative: Tensor
    positives: Tensor
    metrics: dict[str, Tensor]


def logits(
    z1: Tensor,
    z2: Tensor,
    temperature: float,
    normalize: bool,
    negatives: Tensor | None,
    negatives_valid: Tensor | None,
    chunk_size: int | None,
) -> Logits:
    """Compares every view of this replica with all views of the global batch.

    Arguments and errors are as for `nt_xent`.
    """
    check_numbers(Contrastive, temperature=temperature)
    rule = dataclasses.replace(of(Contrastive)["chunk_size"], minimum=1, optional=True)
    rule.check(chunk_size)
    z1, z2 = check_pair("embedding width", z1=z1, z2=z2)
    negatives, negatives_valid = _check_negatives(negatives, negatives_valid, z1)
    temperature = ops.cast(temperature, "float32")
    if normalize:
        z1, z2 = statistics.unit_rows(z1), statistics.unit_rows(z2)

    batch, width = ops.shape(z1)
    total = batch * distribute.replica_count()
    image = distribute.replica_id() * batch + ops.arange(batch)  # (b,), index in the global batch
    # Gathering loses the static shape, which block sizes depend on; the reshape restores it.
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
        matrix = ops.matmul(anchors, ops.transpose(keys))  # (2b, 2N + K)
        negative = ops.logsumexp(streamed.mask(matrix, anchor_image, key_image), axis=-1)
        views = ops.stop_gradient(matrix[:batch, total : 2 * total])  # (b, N)
        metrics = streamed.metrics_of(views, image)
    else:
        negative = streamed.logsumexp(anchors, keys, anchor_image, key_image, chunk_size)
        view1, view2 = ops.stop_gradient(anchors[:batch]), ops.stop_gradient(keys2)
        metrics = streamed.contrast_metrics(view1, view2, image, chunk_size)
    return Logits(positive, negative, ops.sum(keys1 * keys2, axis=-1), metrics)


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
