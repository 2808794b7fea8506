"""Checks whether a classifier can learn the classes of a data set."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from simclrv2_tf.experiments.directory import RunError

if TYPE_CHECKING:
    from simclrv2_tf.config import Config
    from simclrv2_tf.datasets import ImageDataset


def check(data: ImageDataset, config: Config) -> None:
    """Checks the classes that a stage learns from labels.

    There must be at least two. If more than half of the classes of a folder have a single image,
    counted over all splits, the folders may be patients or products, not classes, and no image of
    them could be held out. This is an error, unless `eval_split` is given. A data set without
    classes passes; missing labels are reported elsewhere.

    Raises:
        RunError: there is one class, or most classes have a single image.
    """
    wanted = f"train_mode={config.train_mode} must have"
    if data.num_classes == 1:
        raise RunError(
            f"{wanted} at least two classes. Received: dataset={data.name}, whose only class is "
            f"{data.class_names[0]}. Put the images of each class in a separate folder, or use "
            "--train_mode=pretrain, which needs no classes."
        )
    single = singles(data)
    if config.eval_split is None and len(single) > data.num_classes / 2:
        raise RunError(
            f"{wanted} classes with several images. Received: dataset={data.name}, in which "
            f"{len(single)} of {data.num_classes} classes have one image, such as {single[0]}. Put "
            "the folders of each class inside one folder, or use --train_mode=pretrain; if they "
            "are classes, give the split to evaluate on, such as --eval_split=train."
        )


def singles(data: ImageDataset) -> list[str]:
    """Returns the classes with one image in all splits together, if images are counted."""
    counts = counted(data)
    return [name for name in data.class_names if counts[name] == 1]


def counted(data: ImageDataset) -> Counter[str]:
    """Maps class names to numbers of images in all splits; empty if counting needs the data."""
    counts: Counter[str] = Counter()
    for classes in data.contents.classes.values() if data.contents else ():
        counts.update(classes)
    return counts
