"""Draws which examples have labels in semi-supervised training: a class-balanced subset.

SimCLRv2 uses class-balanced 1% and 10% of the labels (arXiv 2006.10029, section 3). The published
subsets of ImageNet are separate data sets (`imagenet2012_subset/1pct` in TensorFlow Datasets).
"""

import bisect
import hashlib
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from etils import epath

from simclrv2_tf.datasets.sources import DatasetError
from simclrv2_tf.files import write_text


def draw(
    ids: Sequence[str],
    labels: Sequence[int],
    class_names: Sequence[str],
    *,
    label_fraction: float | None = None,
    labels_per_class: int | None = None,
    seed: int = 0,
) -> tuple[str, ...]:
    """Draws the examples that have labels, the same number k of each class.

    Takes the first k examples of a class by the BLAKE2b hash of `"{seed}:{id}"`. So the subset is
    the same on every machine and for every order of the examples, contains each smaller one, and
    changes little when examples are added. A class of fewer than k examples gives all of them.

    With n_c examples in class c and N in total, `label_fraction` gives the largest k for which
    sum_c min(n_c, k) is at most round(`label_fraction` * N), in decimals, halves to even.

    Args:
        ids: (N,) ids of the examples, all different.
        labels: (N,) classes, indices of `class_names`; examples below 0 are unlabelled and skipped.
        class_names: (C,) the name of each class, for errors.
        label_fraction: Share of the labelled examples, in (0, 1]; this or `labels_per_class`.
        labels_per_class: k, at least 1; this or `label_fraction`.
        seed: Determines the examples taken from each class.

    Returns:
        Ids, class by class, in the order of their hashes.

    Raises:
        DatasetError: A class has no labelled example, or fewer than `labels_per_class`; the
            fraction leaves each class without a label; or two ids are the same.
        ValueError: An argument is out of range.
    """
    ids = [str(name) for name in ids]
    classes = np.asarray(labels, np.int64)
    if classes.shape != (len(ids),):
        raise ValueError(
            f"`labels` must have one entry for each of {len(ids)} ids. "
            f"Received: labels.shape={classes.shape}"
        )
    if (label_fraction is None) == (labels_per_class is None):
        raise ValueError(
            "Exactly one of `label_fraction` and `labels_per_class` must be given. "
            f"Received: label_fraction={label_fraction}, labels_per_class={labels_per_class}"
        )
    if (largest := classes.max(initial=-1)) >= len(class_names):
        raise ValueError(
            f"`labels` must be below the number of classes, {len(class_names)}. "
            f"Received: labels with {largest}"
        )
    members: list[list[str]] = [[] for _ in class_names]
    for name, label in zip(ids, classes.tolist(), strict=True):
        if label >= 0:
            members[label].append(name)
    counts = [len(names) for names in members]
    if not any(counts):
        raise DatasetError(
            f"A subset of the labels needs labels. Received: {len(ids)} examples without labels"
        )
    if not all(counts):
        raise DatasetError(
            f"Every class must have a labelled example. Received: {class_names[counts.index(0)]} "
            f"with none of {sum(counts)}"
        )
    if len({name for names in members for name in names}) < sum(counts):
        raise DatasetError(
            f"`ids` must differ from each other. Received: {sum(counts)} labelled examples, "
            "some with the same id"
        )

    if labels_per_class is not None:
        _check_per_class(labels_per_class, counts, class_names)
        k = int(labels_per_class)
    elif label_fraction is not None:
        k = _per_class_of_fraction(label_fraction, counts)

    return tuple(
        name for names in members for name in sorted(names, key=lambda name: _rank(seed, name))[:k]
    )


def _check_per_class(per_class: int, counts: list[int], class_names: Sequence[str]) -> None:
    if per_class < 1 or per_class != int(per_class):
        raise ValueError(
            "`labels_per_class` must be an integer of at least 1. "
            f"Received: labels_per_class={per_class}"
        )
    if per_class > (fewest := min(counts)):
        raise DatasetError(
            f"`labels_per_class` must be at most the number of examples of each class; "
            f"{class_names[counts.index(fewest)]} has {fewest}. "
            f"Received: labels_per_class={per_class}"
        )


def _per_class_of_fraction(fraction: float, counts: list[int]) -> int:
    """The largest k with sum_c min(n_c, k) <= round(`label_fraction` * N)."""
    if not 0 < fraction <= 1:
        raise ValueError(f"`label_fraction` must be in (0, 1]. Received: label_fraction={fraction}")
    total, classes = sum(counts), len(counts)
    budget = _share(fraction, total)
    if budget < classes:
        raise DatasetError(
            f"`label_fraction` must give each class a label; this one is {budget} of {total} "
            f"labels for {classes} classes, and the smallest that works is "
            f"{_smallest_fraction(classes, total)}. Received: label_fraction={fraction}"
        )
    sizes = np.array(counts)
    taken = range(max(counts) + 1)
    return bisect.bisect_right(taken, budget, key=lambda k: int(np.minimum(sizes, k).sum())) - 1


def _share(fraction: float, total: int) -> int:
    # As a decimal: in binary, 0.145 * 100 is below the intended half.
    return round(Fraction(str(float(fraction))) * total)


def _smallest_fraction(budget: int, total: int) -> str:
    """Returns the smallest decimal of three digits whose share of `total` is `budget`."""
    exact = Fraction(2 * budget - 1, 2 * total)  # shares from here on round up
    digits = 2 - math.floor(math.log10(exact))
    steps = math.ceil(exact * 10**digits)
    if _share(steps / 10**digits, total) < budget:
        steps += 1
    return f"{steps / 10**digits:.{digits}f}"


def write(path: epath.Path, ids: Sequence[str]) -> None:
    """Writes a subset as UTF-8 text, one id per line; raises a `DatasetError` for a line break."""
    for name in ids:
        if "\n" in name or "\r" in name:
            raise DatasetError(f"An id must be one line to be listed in {path}. Received: {name!r}")
    write_text(path, "".join(f"{name}\n" for name in ids))


def read(path: epath.Path) -> tuple[str, ...]:
    """Reads the ids of a file by `write`."""
    text = path.read_text()
    return tuple(text.removesuffix("\n").split("\n")) if text else ()


def hold_out(ids: Sequence[str], labels: Sequence[int], share: float, seed: int) -> tuple[str, ...]:
    """Draws a share of each class, for validation: at least one example of a class of two or more.

    Takes the last examples of a class by the hash of `draw`, so that it takes small label subsets
    last.

    Args:
        ids: (N,) ids of the examples.
        labels: (N,) classes; -1, unlabelled, counts as one more class.
        share: In (0, 1).
        seed: Determines the examples taken from each class.
    """
    members: dict[int, list[str]] = {}
    for name, label in zip(ids, labels, strict=True):
        members.setdefault(int(label), []).append(str(name))
    held = []
    for _, names in sorted(members.items()):
        count = max(1, round(share * len(names))) if len(names) > 1 else 0
        ordered = sorted(names, key=lambda name: _rank(seed, name))
        held += ordered[len(names) - count :]
    return tuple(held)


def _rank(seed: int, name: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{name}".encode()).digest()


def balanced_weights(labels: Sequence[int], num_classes: int) -> np.ndarray:
    """Weights N / (C n_c) of classes with n_c of N examples: (C,) float64.

    Their mean over the examples is 1 if every class has examples. A class without examples has
    weight 0.
    """
    counts = np.bincount(np.asarray(labels), minlength=num_classes)
    weights = np.zeros(num_classes)
    np.divide(counts.sum() / num_classes, counts, out=weights, where=counts > 0)
    return weights
