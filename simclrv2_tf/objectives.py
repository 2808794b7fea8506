"""Objectives: pure functions of embeddings or of logits, with thin objects to configure them.

b = examples per replica, R = replicas, N = R * b, d = embedding width, C = classes. Every objective
takes the embeddings or logits of this replica, tensors or NumPy arrays of any float dtype, computes
in float32, and never divides by the replica count: the mean over replicas of its value and of its
gradient is that of the global batch.
"""

from __future__ import annotations

import dataclasses
import functools
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
# On variances, as in the released code of VICReg, and of Barlow Twins by way of its batch norm.
_DEVIATION_EPSILON, _STANDARDIZE_EPSILON = 1e-4, 1e-5


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


def vicreg(z1, z2, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0):
    """VICReg: variance, invariance and covariance regularization.

    Equations 1 to 6 of arXiv 2105.04906 in the form of the released code, over the N images of the
    global batch; C(z) is the covariance of the columns of z, with N - 1 in the denominator:

        invariance * mean((z1 - z2)^2)
        + variance * 1/2 sum_{z in z1, z2} mean_i max(0, 1 - sqrt(C(z)_ii + 1e-4))
        + covariance * sum_{z in z1, z2} 1/d sum_{i != j} C(z)_ij^2.

    The paper writes the first term d times as large, its mean being over images only, and the
    second without the half; the published weights belong to the form used here.

    A global batch of one image has variance and covariance 0 (the denominator is at least 1): the
    variance term then is 0.99 for each unit of its weight, without gradient.

    Args:
        z1: (b, d), embeddings of view 1 of this replica's images, not normalized.
        z2: (b, d), embeddings of view 2 of the same images, in the same order.
        invariance, variance, covariance: The weights of the terms, finite, at least 0.

    Returns:
        () float32, at least 0.

    Raises:
        ValueError: shapes that do not fit, or a weight out of range.
    """
    _check_weights(invariance=invariance, variance=variance, covariance=covariance)
    z1, z2 = _gather_views(*_check_views(z1, z2))
    centered1, centered2 = _center(z1), _center(z2)
    return (
        _float32(invariance) * ops.mean(ops.square(z1 - z2))
        + _float32(variance) * _variance_hinge(centered1, centered2)
        + _float32(covariance) * (_covariance_energy(centered1) + _covariance_energy(centered2))
    )


def barlow_twins(z1, z2, off_diagonal: float = 5e-3):
    """Barlow Twins: the cross-correlation of the two views is to be the identity.

    Equations 1 and 2 of arXiv 2103.03230, over the N images of the global batch:

        L = sum_i (1 - c_ii)^2 + off_diagonal * sum_{i != j} c_ij^2,   c = s1^T s2 / N,

    where s1 and s2 are the columns of z1 and z2 standardized over the batch. As in the released
    code, whose batch norm does that, the variance is biased and 1e-5 is added to it: a column that
    does not vary has correlation 0 with all others, and so has a global batch of one image, whose
    loss is d, without gradient.

    Args:
        z1: (b, d), embeddings of view 1 of this replica's images, not normalized.
        z2: (b, d), embeddings of view 2 of the same images, in the same order.
        off_diagonal: Weight of the off-diagonal entries, finite, at least 0. The paper's is 5e-3
            (0.0051 in the released code).

    Returns:
        () float32, at least 0.

    Raises:
        ValueError: shapes that do not fit, or `off_diagonal` out of range.
    """
    _check_weights(off_diagonal=off_diagonal)
    z1, z2 = _gather_views(*_check_views(z1, z2))
    correlation = _mean_outer_product(_standardize(z1), _standardize(z2))  # (d, d)
    identity = ops.sum(ops.square(1.0 - ops.diagonal(correlation)))
    redundancy = ops.sum(ops.square(_without_diagonal(correlation)))
    return identity + _float32(off_diagonal) * redundancy


def tico(z1, z2, covariance, beta: float = 0.9, rho: float = 8.0):
    """TiCo: transformation invariance and covariance contrast.

    arXiv 2206.10698, over the N images of the global batch, z1 and z2 scaled to unit length:

        C = beta * C_before + (1 - beta) * z1^T z1 / N
        L = -mean(z1 . z2) + rho * mean((z1 C) . z1).

    The gradient flows into z1 and z2, and by both places of z1 in the second term: C has this
    batch's z1 in it. It does not flow into `covariance`, nor into an earlier batch by way of it. In
    the paper z2 comes from a moving average of the network: stop its gradient outside.

    Args:
        z1: (b, d), embeddings of view 1 of this replica's images, not normalized.
        z2: (b, d), embeddings of view 2 of the same images, in the same order.
        covariance: (d, d), C_before: what the previous step has returned, the same on every
            replica; zeros before the first.
        beta: How much of it is kept, from 0 to 1.
        rho: Weight of the covariance term, finite, at least 0.

    Returns:
        loss: () float32, at least -1.
        new_covariance: (d, d) float32, C: without gradient, the same on every replica.

    Raises:
        ValueError: shapes that do not fit, `beta` or `rho` out of range.
    """
    _check_weights(rho=rho)
    _check_beta(beta)
    z1, z2 = _check_views(z1, z2)
    covariance = _check_covariance(covariance, z1)
    z1, z2 = _gather_views(_unit_rows(z1), _unit_rows(z2))
    contrast, new_covariance = _covariance_contrast(z1, covariance, beta)
    loss = _float32(rho) * contrast - ops.mean(ops.sum(z1 * z2, axis=-1))
    return loss, new_covariance


def vicreg_tico(
    z1,
    z2,
    covariance,
    beta: float = 0.9,
    invariance: float = 25.0,
    variance: float = 25.0,
    rho: float = 1.0,
    diagonal: bool = True,
    normalize: bool = False,
):
    """VICReg with TiCo's covariance term: that of `tico` in place of that of `vicreg`.

    From neither paper. The invariance and variance terms are those of `vicreg`, followed by

        rho * mean((z1 C) . z1),   C = beta * C_before + (1 - beta) * z1^T z1 / N,

    where z1 is not centered. The gradient flows by both places of z1, not into `covariance`.

    Args:
        z1: (b, d), embeddings of view 1 of this replica's images, not normalized.
        z2: (b, d), embeddings of view 2 of the same images, in the same order.
        covariance: (d, d), C_before: what the previous step has returned, the same on every
            replica; zeros before the first.
        beta: How much of it is kept, from 0 to 1.
        invariance, variance, rho: The weights of the terms, finite, at least 0.
        diagonal: Whether the diagonal of C counts. It holds the mean squares of z1, which the
            variance term wants to be large. Without it the covariance term may be negative. The
            returned C is whole either way.
        normalize: Whether z1 is scaled to unit length in the covariance term, and so in C. The
            other terms keep raw z: in d dimensions the deviations of unit vectors are 1 / sqrt(d)
            on average at most, and could never reach the variance term's 1.

    Returns:
        loss: () float32; at least 0 with `diagonal`.
        new_covariance: (d, d) float32, C: without gradient, the same on every replica.

    Raises:
        ValueError: shapes that do not fit, `beta` or a weight out of range.
    """
    _check_weights(invariance=invariance, variance=variance, rho=rho)
    _check_beta(beta)
    z1, z2 = _check_views(z1, z2)
    covariance = _check_covariance(covariance, z1)
    z1, z2 = _gather_views(z1, z2)
    contrast, new_covariance = _covariance_contrast(
        _unit_rows(z1) if normalize else z1, covariance, beta, diagonal
    )
    loss = (
        _float32(invariance) * ops.mean(ops.square(z1 - z2))
        + _float32(variance) * _variance_hinge(_center(z1), _center(z2))
        + _float32(rho) * contrast
    )
    return loss, new_covariance


@dataclasses.dataclass(frozen=True)
class VICReg:
    """`vicreg` with its weights set, as an objective of pretraining.

    Raises:
        ValueError: a weight out of range.
    """

    metric_names: ClassVar[tuple[str, ...]] = ()
    variables: ClassVar[dict[str, keras.Variable]] = {}

    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0

    def __post_init__(self):
        _check_weights(**dataclasses.asdict(self))

    def __call__(self, z1, z2, training=False):
        """(b, d), (b, d) -> (loss, {})."""
        return vicreg(z1, z2, **dataclasses.asdict(self)), {}


@dataclasses.dataclass(frozen=True)
class BarlowTwins:
    """`barlow_twins` with its weight set, as an objective of pretraining.

    Raises:
        ValueError: `off_diagonal` out of range.
    """

    metric_names: ClassVar[tuple[str, ...]] = ()
    variables: ClassVar[dict[str, keras.Variable]] = {}

    off_diagonal: float = 5e-3

    def __post_init__(self):
        _check_weights(**dataclasses.asdict(self))

    def __call__(self, z1, z2, training=False):
        """(b, d), (b, d) -> (loss, {})."""
        return barlow_twins(z1, z2, self.off_diagonal), {}


class _WithCovariance:
    """An objective with a running covariance: (d, d) float32 zeros, then what each step returns.

    The covariance belongs in a checkpoint. Made under the strategy it is used with.
    """

    metric_names = ()

    def __init__(self, width: int, function, **options):
        if width < 1:
            raise ValueError(f"`width` must be at least 1. Received: width={width}")
        self.covariance = distribute.equal_on_replicas(ops.zeros((width, width)), "covariance")
        self._function = functools.partial(function, **options)

    @property
    def variables(self) -> dict[str, keras.Variable]:
        return {"covariance": self.covariance}

    def __call__(self, z1, z2, training=False):
        """(b, d), (b, d) -> (loss, {}); in training the covariance moves on."""
        loss, covariance = self._function(z1, z2, self.covariance.value)
        if training:
            self.covariance.assign(covariance)
        return loss, {}


class TiCo(_WithCovariance):
    """`tico` with its options set and its covariance kept, as an objective of pretraining.

    Args:
        width: d, of the embeddings, at least 1.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(self, width: int, beta: float = 0.9, rho: float = 8.0):
        _check_beta(beta)
        _check_weights(rho=rho)
        super().__init__(width, tico, beta=beta, rho=rho)


class VICRegTiCo(_WithCovariance):
    """`vicreg_tico` with its options set and its covariance kept, as an objective of pretraining.

    Args:
        width: d, of the embeddings, at least 1.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        width: int,
        beta: float = 0.9,
        invariance: float = 25.0,
        variance: float = 25.0,
        rho: float = 1.0,
        diagonal: bool = True,
        normalize: bool = False,
    ):
        _check_beta(beta)
        weights = {"invariance": invariance, "variance": variance, "rho": rho}
        _check_weights(**weights)
        super().__init__(
            width, vicreg_tico, beta=beta, **weights, diagonal=diagonal, normalize=normalize
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


# --- Embeddings and the statistics of a batch of them ---------------------------------------------


def _unit_rows(x):
    squared = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.rsqrt(ops.maximum(squared, _NORM_EPSILON))


def _gather_views(z1, z2):
    """Two (b, d) of this replica -> two (N, d), the same on every replica.

    The statistics of a batch are not the mean of its parts', so every replica computes the whole
    objective. Gathering then sums R equal gradients where they reach this replica's rows, which
    makes the mean over replicas the global batch's.
    """
    return distribute.all_gather(z1), distribute.all_gather(z2)


def _center(z):
    """(N, d) -> (N, d), the mean of each column subtracted."""
    # The mean of equal numbers may be off in its last digit, which is no small variance where they
    # are large: without what they share, they are 0. That shift changes nothing else.
    z = z - ops.stop_gradient(z[:1])
    return z - ops.mean(z, axis=0)


def _standardize(z):
    """(N, d) -> (N, d), each column of mean 0 and (biased) variance 1."""
    z = _center(z)
    return z * ops.rsqrt(ops.mean(ops.square(z), axis=0) + _STANDARDIZE_EPSILON)


def _variance_hinge(*centered):
    """(N, d) of each view -> () mean of how much the columns' deviations fall short of 1."""
    short = []
    for z in centered:
        variance = ops.sum(ops.square(z), axis=0) / _one_less(z)  # (d,)
        short.append(ops.mean(ops.relu(1.0 - ops.sqrt(variance + _DEVIATION_EPSILON))))
    return sum(short) / len(short)


def _covariance_energy(centered):
    """(N, d) -> () sum of the squared off-diagonal entries of the covariance, divided by d."""
    covariance = ops.matmul(ops.transpose(centered), centered) / _one_less(centered)
    return ops.sum(ops.square(_without_diagonal(covariance))) / _float32(ops.shape(centered)[1])


def _covariance_contrast(z, covariance, beta, diagonal=True):
    """(N, d), (d, d) -> mean((z C) . z) (), and C (d, d), the running mean of z^T z / N."""
    now = _mean_outer_product(z, z)
    beta = _float32(beta)
    covariance = beta * ops.stop_gradient(covariance) + (1.0 - beta) * now
    counted = covariance if diagonal else _without_diagonal(covariance)
    # The mean over rows of sum_ij z_i C_ij z_j, without the (N, d) product z C.
    return ops.sum(counted * now), ops.stop_gradient(covariance)


def _mean_outer_product(x, y):
    """(N, d), (N, d) -> x^T y / N (d, d)."""
    return ops.matmul(ops.transpose(x), y) / _float32(ops.shape(x)[0])


def _without_diagonal(matrix):
    index = ops.arange(ops.shape(matrix)[0])
    return ops.where(index[:, None] == index[None, :], 0.0, matrix)


def _one_less(z):
    """The denominator N - 1 of unbiased statistics of (N, d), of one row 1."""
    return ops.maximum(_float32(ops.shape(z)[0]) - 1.0, 1.0)


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
    z1, z2 = _check_views(z1, z2)
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


def _check_views(z1, z2):
    """Returns them as float32 tensors."""
    z1, z2 = _float32(z1), _float32(z2)
    if len(z1.shape) != 2 or not _same_shape(z1.shape, z2.shape):
        raise ValueError(
            "`z1` and `z2` must have one shape, (examples, embedding width). Received: "
            f"z1.shape={tuple(z1.shape)}, z2.shape={tuple(z2.shape)}"
        )
    return z1, z2


def _check_covariance(covariance, z1):
    """Returns it as a float32 tensor."""
    covariance = _float32(covariance)
    if not _same_shape(covariance.shape, (z1.shape[1], z1.shape[1])):
        raise ValueError(
            "`covariance` must have the shape (embedding width, embedding width). Received: "
            f"covariance.shape={tuple(covariance.shape)}, z1.shape={tuple(z1.shape)}"
        )
    return covariance


def _check_weights(**weights):
    """Raises ValueError unless every one, tensors aside, is finite and not negative."""
    for name, weight in weights.items():
        if isinstance(weight, numbers.Real) and not 0 <= weight < math.inf:
            raise ValueError(f"`{name}` must be finite and at least 0. Received: {name}={weight}")


def _check_beta(beta):
    if isinstance(beta, numbers.Real) and not 0 <= beta <= 1:
        raise ValueError(f"`beta` must be from 0 to 1. Received: beta={beta}")


def _float32(x):
    return ops.cast(ops.convert_to_tensor(x), "float32")


def _same_shape(a, b):
    """Whether two static shapes can be equal; None is unknown."""
    return len(a) == len(b) and all(
        m == n or m is None or n is None for m, n in zip(a, b, strict=True)
    )
