"""Objectives: pure functions of embeddings or of logits, with thin objects to configure them.

b = examples per replica, R = replicas, N = R * b, d = embedding width, C = classes. Every objective
takes the embeddings or logits of this replica, tensors or NumPy arrays of any float dtype, computes
in float32, and never divides by the replica count: the mean over replicas of its value and of its
gradient is that of the global batch.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from typing import ClassVar

import keras
from keras import ops

from simclrv2_tf import distribute

# The logit of what is not a negative. Finite, as -inf - -inf is NaN where a whole block is masked.
_MASKED = -1e30
# The image index of a key from outside the batch, and of one that does not count: invalid, padding.
_NO_IMAGE, _NO_KEY = -1, -2
_NORM_EPSILON = 1e-12  # on the squared norm, as in the reference
_ENTROPY_EPSILON = 1e-8


def nt_xent(
    z1,
    z2,
    temperature: float = 0.1,
    normalize: bool = True,
    negatives=None,
    negatives_valid=None,
    chunk_size: int | None = None,
):
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
            past embeddings, normalized here too. They are not gathered: each replica uses those it
            is given. Gradients flow into them; stop them outside where that is not wanted.
        negatives_valid: (K,) bool, which of `negatives` count; all by default.
        chunk_size: Keys per block, at least 1. None holds the (2b, 2N + K) matrix of logits. A
            number streams over blocks of (2b, chunk_size), in the backward pass too, where blocks
            are computed again: same value, gradient and metrics, memory linear in N, about half
            as much computation again. It need not divide anything. First derivatives only.

    Returns:
        loss: () float32, at least 0.
        metrics: without gradient, and over the logits of this replica's view 1 against all N
            view-2 embeddings, as the reference logs them:
            `contrast_accuracy` () in [0, 1], how often the image's own view 2 scores highest;
            `contrast_entropy` () in nats, mean entropy of the softmax, from 0 to log(N).

    Raises:
        ValueError: shapes that do not fit, `temperature` or `chunk_size` out of range, or
            `negatives_valid` without `negatives`.
    """
    _check_options(temperature, chunk_size)
    z1, z2, negatives, negatives_valid = _check_embeddings(z1, z2, negatives, negatives_valid)
    temperature = ops.cast(temperature, "float32")
    z1 = _unit_rows(z1) if normalize else z1
    z2 = _unit_rows(z2) if normalize else z2

    batch, width = ops.shape(z1)
    total = batch * distribute.replica_count()
    image = distribute.replica_id() * batch + ops.arange(batch)  # (b,), index in the global batch
    # Gathering forgets the static shape, by which blocks are sized; the reshape restores it.
    keys1 = ops.reshape(distribute.all_gather(z1), (total, width))  # (N, d)
    keys2 = ops.reshape(distribute.all_gather(z2), (total, width))  # (N, d)
    keys = [keys1, keys2]
    # A negative of an anchor is a key of another image.
    key_image = [ops.arange(total), ops.arange(total)]
    if negatives is not None:
        negatives = _unit_rows(negatives) if normalize else negatives
        keys.append(negatives)
        key_image.append(ops.where(negatives_valid, _NO_IMAGE, _NO_KEY))
    keys = ops.concatenate(keys)  # (2N + K, d)
    key_image = ops.concatenate(key_image)  # (2N + K,)
    anchors = ops.concatenate([z1, z2]) / temperature  # (2b, d)
    anchor_image = ops.concatenate([image, image])  # (2b,)
    positive = ops.sum(anchors * ops.concatenate([z2, z1]), axis=-1)  # (2b,)

    if chunk_size is None:
        logits = ops.matmul(anchors, ops.transpose(keys))  # (2b, 2N + K)
        negative = ops.logsumexp(_mask(logits, anchor_image, key_image), axis=-1)
        contrast = ops.stop_gradient(logits[:batch, total : 2 * total])  # (b, N)
        metrics = _contrast_metrics(contrast, image)
    else:
        negative = _streamed_logsumexp(anchors, keys, anchor_image, key_image, chunk_size)
        metrics = _streamed_contrast_metrics(
            ops.stop_gradient(anchors[:batch]), ops.stop_gradient(keys2), image, chunk_size
        )
    # log(exp(positive) + exp(negative)) - positive, without cancellation where the loss is small.
    per_anchor = ops.softplus(negative - positive)  # (2b,)
    return 2.0 * ops.mean(per_anchor), metrics


@dataclasses.dataclass(frozen=True)
class NTXent:
    """`nt_xent` with its options set: what a pretraining stage is given as its objective.

    ```python
    loss, metrics = NTXent(temperature=0.1)(z1, z2)
    ```

    Raises:
        ValueError: `temperature` or `chunk_size` out of range.
    """

    metric_names: ClassVar[tuple[str, ...]] = ("contrast_accuracy", "contrast_entropy")
    variables: ClassVar[dict[str, keras.Variable]] = {}

    temperature: float = 0.1
    normalize: bool = True
    chunk_size: int | None = None

    def __post_init__(self):
        _check_options(self.temperature, self.chunk_size)

    def __call__(self, z1, z2, training=False, negatives=None, negatives_valid=None):
        """(b, d), (b, d), (K, d), (K,) -> (loss, metrics), as `nt_xent`."""
        return nt_xent(
            z1,
            z2,
            temperature=self.temperature,
            normalize=self.normalize,
            negatives=negatives,
            negatives_valid=negatives_valid,
            chunk_size=self.chunk_size,
        )


def distillation(student_logits, teacher_logits, temperature: float = 1.0):
    """Distillation loss of SimCLRv2: the cross entropy of the student to the teacher's labels.

    Equation 2 of arXiv 2006.10029, as the mean over the batch's images x:

        L = -mean_x sum_y P_T(y | x; t) log P_S(y | x; t),   P(y | x; t) = softmax(logits / t)_y.

    The paper has no factor t^2, and neither has this. Equal logits give the teacher's entropy,
    the smallest value there is, not 0.

    Args:
        student_logits: (b, C).
        teacher_logits: (b, C), of the same images and classes. No gradient flows into them.
        temperature: t, above 0.

    Returns:
        () float32 in nats, at least 0.

    Raises:
        ValueError: shapes that do not fit, or `temperature` out of range.
    """
    return ops.mean(distillation_per_example(student_logits, teacher_logits, temperature))


def distillation_per_example(student_logits, teacher_logits, temperature: float = 1.0):
    """The terms that `distillation` is the mean of: (b, C), (b, C) -> (b,) float32.

    Raises:
        ValueError: as `distillation`.
    """
    check_temperature(temperature)
    student_logits, teacher_logits = _float32(student_logits), _float32(teacher_logits)
    if len(student_logits.shape) != 2 or not _same_shape(
        student_logits.shape, teacher_logits.shape
    ):
        raise ValueError(
            "`student_logits` and `teacher_logits` must have one shape, (examples, classes). "
            f"Received: student_logits.shape={tuple(student_logits.shape)}, "
            f"teacher_logits.shape={tuple(teacher_logits.shape)}"
        )
    temperature = ops.cast(temperature, "float32")
    teacher = ops.stop_gradient(ops.softmax(teacher_logits / temperature, axis=-1))  # (b, C)
    return ops.categorical_crossentropy(teacher, student_logits / temperature, from_logits=True)


# --- NT-Xent: shared by the plain and the streamed form -------------------------------------------


def _mask(logits, anchor_image, key_image):
    """(A, M) logits, (A,), (M,) -> (A, M) with only the negatives' logits left standing."""
    other = ops.not_equal(anchor_image[:, None], key_image[None, :])
    return ops.where(ops.logical_and(other, key_image[None, :] != _NO_KEY), logits, _MASKED)


def _contrast_metrics(logits, label):
    """(b, N) logits, (b,) column of the positive -> accuracy (), entropy ()."""
    p = ops.exp(ops.log_softmax(logits))
    entropy = -ops.sum(p * ops.log(p + _ENTROPY_EPSILON), axis=-1)
    return _metrics(ops.argmax(logits, axis=-1), label, entropy)


def _metrics(predicted, label, entropy):
    hit = ops.equal(ops.cast(predicted, "int32"), ops.cast(label, "int32"))
    return {
        "contrast_accuracy": ops.mean(ops.cast(hit, "float32")),
        "contrast_entropy": ops.mean(entropy),
    }


def _unit_rows(x):
    squared = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.rsqrt(ops.maximum(squared, _NORM_EPSILON))


# --- NT-Xent: the streamed form -------------------------------------------------------------------


def _streamed_logsumexp(anchors, keys, anchor_image, key_image, chunk_size):
    """Logsumexp of every anchor's negative logits, by blocks of keys, in both passes.

    Args: anchors (A, d), divided by the temperature; keys (M, d); their images (A,) and (M,).
    Returns: (A,).
    """
    chunk_size = _at_most(chunk_size, keys.shape[0])
    num_blocks = (ops.shape(keys)[0] + chunk_size - 1) // chunk_size
    # This much padding is enough for any number of keys, so their number may be unknown here.
    keys = ops.pad(keys, ((0, chunk_size - 1), (0, 0)))
    key_image = ops.pad(key_image, ((0, chunk_size - 1),), constant_values=_NO_KEY)

    @ops.custom_gradient
    def logsumexp(anchors, keys):
        def block_logits(index):
            block = _rows(keys, index, chunk_size)  # (chunk, d)
            logits = ops.matmul(anchors, ops.transpose(block))  # (A, chunk)
            images = ops.slice(key_image, (index * chunk_size,), (chunk_size,))
            return block, _mask(logits, anchor_image, images)

        def accumulate(index, state):
            return _add_to_logsumexp(state, block_logits(index)[1])

        maximum, total = _fold(accumulate, _empty_logsumexp(anchors), num_blocks)

        def grad(*args, upstream=None):
            if upstream is None:
                (upstream,) = args
            scale = upstream / total  # (A,)

            def accumulate_gradients(index, state):
                anchors_grad, keys_grad = state
                block, logits = block_logits(index)
                # An anchor without any negative arrives with upstream 0, so what its masked
                # logits give here does not count.
                logits_grad = ops.exp(logits - maximum[:, None]) * scale[:, None]  # (A, chunk)
                anchors_grad = anchors_grad + ops.matmul(logits_grad, block)
                block_grad = ops.matmul(ops.transpose(logits_grad), anchors)  # (chunk, d)
                keys_grad = ops.slice_update(keys_grad, (index * chunk_size, 0), block_grad)
                return anchors_grad, keys_grad

            zeros = (ops.zeros_like(anchors), ops.zeros_like(keys))
            return _fold(accumulate_gradients, zeros, num_blocks)

        return maximum + ops.log(total), grad

    return logsumexp(anchors, keys)


def _streamed_contrast_metrics(anchors, keys, label, chunk_size):
    """`_contrast_metrics` of anchors (b, d) against keys (N, d), by blocks of keys."""
    chunk_size = _at_most(chunk_size, keys.shape[0])
    count = ops.shape(keys)[0]
    num_blocks = (count + chunk_size - 1) // chunk_size
    keys = ops.pad(keys, ((0, chunk_size - 1), (0, 0)))

    def block_logits(index):
        logits = ops.matmul(anchors, ops.transpose(_rows(keys, index, chunk_size)))  # (b, chunk)
        inside = index * chunk_size + ops.arange(chunk_size) < count
        return ops.where(inside[None, :], logits, _MASKED)

    def find_best(index, state):
        logsumexp, best = state
        logits = block_logits(index)
        # The first of equal logits wins, as in argmax over the whole row.
        better = ops.max(logits, axis=-1) > logsumexp[0]
        found = index * chunk_size + ops.cast(ops.argmax(logits, axis=-1), "int32")
        return _add_to_logsumexp(logsumexp, logits), ops.where(better, found, best)

    empty = _empty_logsumexp(anchors)
    none_yet = ops.zeros_like(empty[0], dtype="int32")
    (maximum, total), best = _fold(find_best, (empty, none_yet), num_blocks)

    def add_entropy(index, entropy):
        # Normalized in two steps, as log(total) would drown in a large maximum.
        p = ops.exp(block_logits(index) - maximum[:, None]) / total[:, None]
        return entropy - ops.sum(p * ops.log(p + _ENTROPY_EPSILON), axis=-1)

    entropy = _fold(add_entropy, ops.zeros_like(maximum), num_blocks)
    return _metrics(best, label, entropy)


def _empty_logsumexp(anchors):
    """The logsumexp (A,) of no logits, as (largest logit so far, sum relative to it)."""
    zeros = ops.zeros_like(anchors[:, 0])
    return zeros + _MASKED, zeros


def _add_to_logsumexp(state, logits):
    maximum, total = state
    new_maximum = ops.maximum(maximum, ops.max(logits, axis=-1))
    block_total = ops.sum(ops.exp(logits - new_maximum[:, None]), axis=-1)
    return new_maximum, total * ops.exp(maximum - new_maximum) + block_total


def _fold(body, state, num_blocks):
    """`ops.fori_loop` from 0 that never has two iterations in flight.

    TensorFlow's graph executor runs up to ten at once, and with them ten blocks are in memory.
    """
    if keras.backend.backend() != "tensorflow":
        return ops.fori_loop(0, num_blocks, body, state)
    import tensorflow as tf

    return tf.while_loop(
        lambda index, _: index < num_blocks,
        lambda index, state: (index + 1, body(index, state)),
        (0, state),
        parallel_iterations=1,
    )[1]


def _rows(x, index, size):
    return ops.slice(x, (index * size, 0), (size, ops.shape(x)[1]))


def _at_most(chunk_size, count):
    return chunk_size if count is None else max(1, min(chunk_size, count))


# --- Arguments ------------------------------------------------------------------------------------


def check_temperature(temperature) -> None:
    """Raises ValueError unless `temperature`, a tensor aside, is positive and finite."""
    if isinstance(temperature, numbers.Real) and not 0 < temperature < math.inf:
        raise ValueError(
            f"`temperature` must be positive and finite. Received: temperature={temperature}"
        )


def _check_options(temperature, chunk_size):
    check_temperature(temperature)
    if chunk_size is not None and (
        isinstance(chunk_size, bool)
        or not isinstance(chunk_size, numbers.Integral)
        or chunk_size < 1
    ):
        raise ValueError(
            f"`chunk_size` must be None or an integer of at least 1. Received: "
            f"chunk_size={chunk_size!r}"
        )


def _check_embeddings(z1, z2, negatives, negatives_valid):
    """Returns them as float32 (bool) tensors, with `negatives_valid` filled in."""
    z1, z2 = _float32(z1), _float32(z2)
    if len(z1.shape) != 2 or not _same_shape(z1.shape, z2.shape):
        raise ValueError(
            "`z1` and `z2` must have one shape, (examples, embedding width). Received: "
            f"z1.shape={tuple(z1.shape)}, z2.shape={tuple(z2.shape)}"
        )
    if negatives is None:
        if negatives_valid is not None:
            raise ValueError(
                "`negatives_valid` must come with `negatives`. Received: negatives=None, "
                f"negatives_valid={negatives_valid}"
            )
        return z1, z2, None, None
    negatives = _float32(negatives)
    if len(negatives.shape) != 2 or not _same_shape(negatives.shape[1:], z1.shape[1:]):
        raise ValueError(
            "`negatives` must have the shape (K, embedding width). Received: "
            f"negatives.shape={tuple(negatives.shape)}, z1.shape={tuple(z1.shape)}"
        )
    if negatives_valid is None:
        return z1, z2, negatives, ops.ones_like(negatives[:, 0], dtype="bool")
    negatives_valid = ops.cast(ops.convert_to_tensor(negatives_valid), "bool")
    if not _same_shape(negatives_valid.shape, negatives.shape[:1]):
        raise ValueError(
            "`negatives_valid` must have the shape (K,) for `negatives` of shape (K, embedding "
            f"width). Received: negatives_valid.shape={tuple(negatives_valid.shape)}, "
            f"negatives.shape={tuple(negatives.shape)}"
        )
    return z1, z2, negatives, negatives_valid


def _float32(x):
    return ops.cast(ops.convert_to_tensor(x), "float32")


def _same_shape(a, b):
    """Whether two static shapes can be equal; None is unknown."""
    return len(a) == len(b) and all(
        m == n or m is None or n is None for m, n in zip(a, b, strict=True)
    )
