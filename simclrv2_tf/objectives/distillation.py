"""Distillation: a student's cross entropy to its teacher's class probabilities."""

from etils import epy

from simclrv2_tf.objectives.base import Tensor, check_pair
from simclrv2_tf.objectives.nt_xent import NTXent
from simclrv2_tf.options import check_numbers

with epy.lazy_imports():
    from keras import ops


def distillation(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0
) -> Tensor:
    """Distillation loss of SimCLRv2: the student's cross entropy to the teacher's probabilities.

    Equation 2 of arXiv 2006.10029, as the mean over the batch's images x:

        L = -mean_x sum_y P_T(y | x; t) log P_S(y | x; t),   P(y | x; t) = softmax(logits / t)_y.

    Like the paper's, it has no factor t^2. Equal logits give the teacher's entropy, the smallest
    possible value, not 0.

    Args:
        student_logits: (b, C).
        teacher_logits: (b, C), for the same images and classes. They receive no gradient.
        temperature: t, above 0.

    Returns:
        () float32 in nats, at least 0.

    Raises:
        ValueError: the shapes do not match, or `temperature` is out of range.
    """
    return ops.mean(distillation_per_example(student_logits, teacher_logits, temperature))


def distillation_per_example(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0
) -> Tensor:
    """The terms (b,) float32 whose mean is `distillation`, with its args and errors."""
    check_numbers(NTXent, temperature=temperature)
    student, teacher = check_pair(
        "classes", student_logits=student_logits, teacher_logits=teacher_logits
    )
    temperature = ops.cast(temperature, "float32")
    teacher = ops.stop_gradient(ops.softmax(teacher / temperature, axis=-1))  # (b, C)
    return ops.categorical_crossentropy(teacher, student / temperature, from_logits=True)
