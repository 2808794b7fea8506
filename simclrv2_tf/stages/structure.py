"""The structure of a stage's batches, checked when a step is traced, and their labels.

Without the check, two views could be read as images and labels, or halves of a batch as two views:
the loss would be finite but wrong.
"""

from collections.abc import Sequence

import tensorflow as tf


def views_and_labels(data) -> tuple[Sequence, tf.Tensor]:
    """Unpacks `((view1, view2), labels)`.

    Args:
        data: Two batches of images (b, H, W, C) of the same shape, and integers (b,).

    Raises:
        ValueError: `data` has another structure.
    """
    if _is_sequence(data, 2) and _is_sequence(data[0], 2):
        views, labels = data
        same = tf.TensorShape(views[0].shape).is_compatible_with(views[1].shape)
        if all(map(_are_images, views)) and _are_labels(labels, views[0]) and same:
            return views, labels
    raise wrong(
        "((view1, view2), labels): two batches of images (b, H, W, C), and integers (b,), below 0 "
        "if unlabelled",
        data,
        "`datasets.pretraining_batches` makes such batches.",
    )


def images_and_labels(data) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
    """Unpacks `(images, labels)` or `(images, labels, weights)`; weights may be None.

    Args:
        data: Images (b, H, W, C), integers (b,) and numbers (b,).

    Raises:
        ValueError: `data` has another structure.
    """
    if _is_sequence(data, 2) or _is_sequence(data, 3):
        images, labels, weights = (*data, None)[:3]
        weighted = weights is None or _fits(weights, (_count(images),))
        if images_with_labels((images, labels)) is not None and weighted:
            return images, labels, weights
    raise wrong(
        "(images, labels) or (images, labels, weights): images (b, H, W, C), integers (b,) and "
        "numbers (b,)",
        data,
        "`datasets.training_batches` makes such batches.",
    )


def images_alone(data) -> tf.Tensor | None:
    """Returns the images (b, H, W, C) in `data`, directly or in a sequence of one, or None."""
    images = data[0] if _is_sequence(data, 1) else data
    return images if _are_images(images) else None


def images_with_labels(data) -> tuple[tf.Tensor, tf.Tensor] | None:
    """Returns the images (b, H, W, C) and integers (b,) in `data`, or None."""
    if not _is_sequence(data, 2):
        return None
    images, labels = data
    return (images, labels) if _are_images(images) and _are_labels(labels, images) else None


def wrong(rule: str, data, advice: str, received: str = "") -> ValueError:
    """Returns the error for a batch that breaks `rule`."""
    return ValueError(f"`data` must be {rule}. Received: {received}data={_shown(data)}. {advice}")


def all_labelled(labels) -> tf.Tensor:
    """Returns `labels`, after a check in the running step that none is below 0."""
    check = tf.debugging.assert_non_negative(
        labels,
        "Every image of a labelled training batch must have a label of 0 or above; -1 means "
        "unlabelled. Leave unlabelled images out, for instance with --label_fraction=1.",
    )
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(labels)


def where_labelled(labels, weights=None) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns labels (b,) of at least 0, and float32 weights (b,), 0 for unlabelled images."""
    labelled = tf.cast(tf.convert_to_tensor(labels) >= 0, tf.float32)
    weights = labelled if weights is None else labelled * tf.cast(weights, tf.float32)
    return tf.maximum(labels, 0), weights


def _is_sequence(value, count: int) -> bool:
    return isinstance(value, tuple | list) and len(value) == count


def _fits(value, shape: tuple) -> bool:
    """Whether `value` is a tensor or array of this shape, as far as it is known."""
    return hasattr(value, "shape") and tf.TensorShape(value.shape).is_compatible_with(shape)


def _are_images(value) -> bool:
    return _fits(value, (None,) * 4)


def _are_labels(value, images) -> bool:
    return _fits(value, (_count(images),)) and tf.as_dtype(value.dtype).is_integer


def _count(images) -> int | None:
    shape = tf.TensorShape(getattr(images, "shape", None))
    return shape[0] if shape.rank else None


def _shown(data) -> str:
    """Such as "(float32 (6, 8, 8, 3), int64 (6,))"."""
    if isinstance(data, tuple | list):
        return f"({', '.join(map(_shown, data))})"
    if not hasattr(data, "shape"):
        return type(data).__name__
    return f"{tf.as_dtype(data.dtype).name} {tuple(tf.TensorShape(data.shape))}"
