"""Distillation: a student's cross entropy to its teacher's class probabilities."""

from __future__ import annotations

from etils import epy

from simclrv2_tf.objectives.base import Tensor, float32, same_shape
from simclrv2_tf.objectives.nt_xent import check_temperature

with epy.lazy_imports():
    from keras import ops


def distillation(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0
) -> Tensor:
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


def distillation_per_example(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0
) -> Tensor:
    """The terms that `distillation` is the mean of: (b, C), (b, C) -> (b,) float32.

    Raises:
        ValueError: as `distillation`.
    """
    check_temperature(temperature)
    student_logits, teacher_logits = float32(student_logits), float32(teacher_logits)
    if len(student_logits.shape) != 2 or not same_shape(student_logits.shape, teacher_logits.shape):
        raise ValueError(
            "`student_logits` and `teacher_logits` must have one shape, (examples, classes). "
            f"Received: student_logits.shape={tuple(student_logits.shape)}, "
            f"teacher_logits.shape={tuple(teacher_logits.shape)}"
        )
    temperature = ops.cast(temperature, "float32")
    teacher = ops.stop_gradient(ops.softmax(teacher_logits / temperature, axis=-1))  # (b, C)
    return ops.categorical_crossentropy(teacher, student_logits / temperature, from_logits=True)
