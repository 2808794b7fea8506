"""Losses on unlabelled images: pseudo-labels, FixMatch and mean teachers."""

from etils import epy

from simclrv2_tf.objectives.base import Tensor, check_pair

with epy.lazy_imports():
    from keras import ops

DEFAULT_THRESHOLD = 0.95


def pseudo_label_per_example(
    target_logits: Tensor, logits: Tensor, threshold: float = DEFAULT_THRESHOLD
) -> tuple[Tensor, Tensor]:
    """Cross entropy to the most probable class, if it is probable enough.

    Equation 4 of FixMatch (arXiv 2001.07685), for each unlabelled image x, without the mean:

        1[max_y q_y >= threshold] H(argmax_y q_y, p),   q, p = softmax of `target_logits`, `logits`.

    In FixMatch, q comes from the weak view and p from the strong view; in pseudo-labels (Lee 2013),
    both come from one view.

    Args:
        target_logits: (u, C). They receive no gradient.
        logits: (u, C), of the same images.
        threshold: In [0, 1]; 0 uses all images.

    Returns:
        The losses, (u,) float32 in nats, 0 if no class is probable enough; and a mask of the used
        images, (u,) float32 of 0 and 1.

    Raises:
        ValueError: the shapes do not match, or `threshold` is out of range.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"`threshold` must be from 0 to 1. Received: threshold={threshold}")
    targets, logits = check_pair("classes", target_logits=target_logits, logits=logits)
    q = ops.stop_gradient(ops.softmax(targets, axis=-1))  # (u, C)
    taken = ops.cast(ops.max(q, axis=-1) >= threshold, "float32")  # (u,)
    losses = ops.sparse_categorical_crossentropy(ops.argmax(q, axis=-1), logits, from_logits=True)
    return taken * losses, taken


def mean_teacher_per_example(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Mean squared difference of class probabilities (arXiv 1703.01780, section 2).

    Args:
        logits: (u, C), the network's.
        teacher_logits: (u, C), from its moving average, for other views of the same images. They
            receive no gradient.

    Returns:
        (u,) float32 from 0 to 2 / C: the mean over the C classes.

    Raises:
        ValueError: the shapes do not match.
    """
    logits, teacher = check_pair("classes", logits=logits, teacher_logits=teacher_logits)
    teacher = ops.stop_gradient(ops.softmax(teacher, axis=-1))
    return ops.mean(ops.square(ops.softmax(logits, axis=-1) - teacher), axis=-1)


def linear_ramp(done: Tensor) -> Tensor:
    """Returns the weight of pseudo-labels: the share of the ramp, at most 1 (Lee 2013, eq. 16)."""
    return ops.clip(ops.cast(done, "float32"), 0.0, 1.0)


def exponential_ramp(done: Tensor) -> Tensor:
    """Returns the weight of a mean teacher: exp(-5 (1 - x)^2) for a share x of the ramp."""
    rest = 1.0 - ops.clip(ops.cast(done, "float32"), 0.0, 1.0)
    return ops.exp(-5.0 * rest * rest)
