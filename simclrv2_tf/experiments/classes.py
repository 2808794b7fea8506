"""Whether the classes of a data set can be what a classifier is to tell apart."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from simclrv2_tf.experiments.directory import RunError

if TYPE_CHECKING:
    from simclrv2_tf.config import Config
    from simclrv2_tf.datasets import ImageDataset


def check(data: ImageDataset, config: Config) -> None:
    """Checks the classes that a stage learns from labels.

    There must be two. And where more than half of the classes of a folder have a single image,
    counted over all splits, its folders may be patients or products, not classes: nothing could be
    held out of them to evaluate on. So that is refused, unless `eval_split` says what is evaluated
    on. A set without classes passes: it has no labels, which is refused elsewhere.

    Raises:
        RunError: there is one class, or most classes have a single image.
    """
    wanted = f"train_mode={config.train_mode} must have"
    if data.num_classes == 1:
        raise RunError(
            f"{wanted} at least two classes to tell apart. Received: dataset={data.name}, whose "
            f"only class is {data.class_names[0]}. Put the images of each class in a folder of "
            "their own, or use --train_mode=pretrain, which needs no classes."
        )
    single = singles(data)
    if config.eval_split is None and len(single) > data.num_classes / 2:
        raise RunError(
            f"{wanted} classes of several images. Received: dataset={data.name}, where "
            f"{len(single)} of {data.num_classes} classes have one image, such as {single[0]}. "
            "Put the folders of each class below one folder, or use --train_mode=pretrain; if they "
            "are classes, say what to evaluate on, as in --eval_split=train."
        )


def singles(data: ImageDataset) -> list[str]:
    """The classes that have one image in all splits together, where the classes are counted."""
    counts = counted(data)
    return [name for name in data.class_names if counts[name] == 1]


def counted(data: ImageDataset) -> Counter[str]:
    """Class name -> its images in all splits; empty where counting takes reading the data."""
    counts: Counter[str] = Counter()
    for classes in data.contents.classes.values() if data.contents else ():
        counts.update(classes)
    return counts
