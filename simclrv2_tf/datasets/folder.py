"""Folders of image files: their layout, and a check that each file is whole."""

import collections
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping

import tensorflow as tf
from absl import logging

from simclrv2_tf.channels import RGB
from simclrv2_tf.datasets import folder_layout, folder_table
from simclrv2_tf.datasets.checked_files import check_files, describe
from simclrv2_tf.datasets.class_folders import in_words
from simclrv2_tf.datasets.conversion import cache_folder
from simclrv2_tf.datasets.folder_layout import TEST, TRAIN, UNLABELLED, VALIDATION, Layout
from simclrv2_tf.datasets.folder_split import FolderSplit
from simclrv2_tf.datasets.folder_tree import FolderTree
from simclrv2_tf.datasets.images import EXTENSIONS, Reading
from simclrv2_tf.datasets.listing import wrong
from simclrv2_tf.datasets.sources import (
    Contents,
    DatasetError,
    ImageDataset,
    Range,
    ValueRange,
)
from simclrv2_tf.datasets.splits import Split

# Evaluation uses the first of these splits that exists and has labels; the holdout takes the first
# free name.
_HELD_OUT = (TEST, VALIDATION, "held_out")


def open_dataset(
    name: str,
    data_dir: str | None,
    split_seed: int,
    value_range: ValueRange = None,
    channels: int = RGB,
) -> ImageDataset:
    """Opens `folder:PATH`: lists the images of a folder and checks that each file is complete.

    **Classes.** Class folders (searched to any depth) hold the images of a class; a folder without
    subfolders of images is an unlabelled set. Alternatively, a table `labels.csv` or `metadata.csv`
    in PATH, or in the folder of each split, gives the classes, see `folder_table`.

    **Splits.** Class folders are directly in PATH, which may be remote, or in a folder `train/`,
    with `validation/` and `test/` alongside. Other common names, such as `Training/`, `val/` and
    `eval/`, mean the same, see `split_names`. If no images with labels are held out, a tenth of
    each class (at least one image of two) becomes the split `test`, or `validation` if there is a
    test folder without labels. This choice and the order of the files depend only on `split_seed`
    and on each file's path below PATH: they are the same on every machine, and an added file moves
    few others.

    **Unlabelled images** in `unlabelled/` (also `unlabeled/`, `unsup/`), alongside splits or
    classes, are the split `unlabelled`.

    If PATH only holds a folder of classes or splits, at any depth, that folder is read. Unreadable
    files, and links to files that are read anyway, are skipped with a warning, see `FolderTree`.
    Files that TensorFlow does not read are converted once, see `conversion`. With `channels` other
    than gray and RGB, files of other bands are converted too. `ImageDataset.contents` describes how
    the folder was read.

    Raises:
        DatasetError: The folder is missing or holds no readable image, or the labels of its splits
            do not agree.
    """
    given = os.path.expanduser(name.removeprefix("folder:"))
    if not given:
        raise DatasetError(f"`dataset` must be folder:PATH. Received: dataset={name!r}")
    if not tf.io.gfile.isdir(given):
        raise DatasetError(f"The image folder must be an existing folder. Received: folder:{given}")
    tree = FolderTree(given, _is_image)
    if inner := folder_layout.wrapped(tree, _is_image):
        tree = FolderTree(os.path.join(tree.root, inner), _is_image)
    layout, root = _layout(tree), tree.root
    class_names = layout.class_names
    splits = {
        split: _labelled(images, class_names, split_seed) for split, images in layout.splits.items()
    }
    evaluated = _evaluated(splits, bool(class_names))
    held_out = None
    if evaluated is None:
        held_out = next(name for name in _HELD_OUT if name not in splits)
        train, taken = _hold_out(splits[TRAIN])
        splits = {**splits, TRAIN: train, held_out: taken}

    paths = [path for files in splits.values() for path in files]
    reading = Reading(value_range, channels=channels)
    checked = check_files(root, paths, cache_folder(data_dir), reading)
    skipped = checked.skipped
    if len(skipped) == len(paths):
        raise wrong(tree, _none_readable(skipped))
    if skipped:
        logging.warning("Skipped %d of %d images of %s.", len(skipped), len(paths), root)
    readable = {
        split: [(path, label) for path, label in files.items() if path not in skipped]
        for split, files in splits.items()
    }
    notes = [*layout.notes, *_without_readable(readable, class_names)]
    readable = {split: files for split, files in readable.items() if files}
    if TRAIN not in readable:
        rule = "The split train of an image folder must hold a readable image."
        raise wrong(tree, rule)

    def select(spec: str, ranges: list[Range]) -> Split:
        files = [file for split, begin, end in ranges for file in readable[split][begin:end]]
        ids, labels = zip(*files, strict=True)
        known = labels if class_names else None
        return FolderSplit(spec, root, skipped, ids, known, checked.converted, reading)

    stored = describe(root, [file for file, _ in readable[TRAIN]], checked.converted, reading)
    contents = Contents(
        location=root,
        folders=layout.folders,
        classes={split: _counts(files, class_names) for split, files in readable.items()},
        held_out=held_out if held_out in readable else None,
        eval_split=_evaluated(readable, bool(class_names)),
        unlabelled_split=UNLABELLED if UNLABELLED in readable else None,
        table=layout.table,
        notes=tuple(notes),
        files={**tree.left_out, **layout.files},
    )
    sizes = {split: len(files) for split, files in readable.items()}
    return ImageDataset(name, class_names, sizes, select, skipped, contents, stored)


def open_images(
    path: str,
    data_dir: str | None = None,
    value_range: ValueRange = None,
    channels: int = RGB,
) -> Split:
    """Lists the images below a folder, at any depth, or one file, without labels; sorted by path.

    Their ids are the paths below the folder. `path` may be remote. Files that TensorFlow does not
    read are converted into `data_dir`, by default the user's cache.

    Raises:
        DatasetError: There are no images, or all need conversion and none can be converted.
    """
    root = os.path.expanduser(path)
    reading = Reading(value_range, channels=channels)
    if not tf.io.gfile.exists(root):
        raise DatasetError(f"Images must be in an existing folder or file. Received: {root}")
    if len(os.path.basename(root).splitlines()) > 1:
        raise DatasetError(f"The name of an image must be one line. Received: {root!r}")
    if not tf.io.gfile.isdir(root):
        return _images(
            path, os.path.dirname(root) or ".", [os.path.basename(root)], data_dir, reading
        )
    if not (ids := sorted(filter(_is_image, FolderTree(root, _is_image).walk("")))):
        formats = ", ".join(EXTENSIONS)
        raise DatasetError(f"A folder of images must hold some ({formats}). Received: {root}")
    return _images(path, root, ids, data_dir, reading)


def _images(
    name: str, root: str, ids: list[str], data_dir: str | None, reading: Reading
) -> FolderSplit:
    checked = check_files(root, ids, cache_folder(data_dir), reading, decodes=False)
    if len(checked.skipped) == len(ids):
        raise DatasetError(f"{_none_readable(checked.skipped)} Received: {name}")
    return FolderSplit(
        name, root, checked.skipped, ids, converted=checked.converted, reading=reading
    )


def _none_readable(skipped: Mapping[str, str]) -> str:
    """Returns the error for skipping all images, with the most frequent reason."""
    ((reason, count),) = collections.Counter(skipped.values()).most_common(1)
    example = next(path for path, why in skipped.items() if why == reason)
    others = f" and {count - 1:,} more" if count > 1 else ""
    return (
        f"There must be at least one readable image, but none of {len(skipped):,} can be read "
        f"({example}{others}: {reason})."
    )


def _layout(tree: FolderTree) -> Layout:
    def content(path: str) -> bytes:
        return tf.io.read_file(os.path.join(tree.root, path)).numpy()

    return folder_table.layout_of(tree, _is_image, ", ".join(EXTENSIONS), content)


def _labelled(
    images: Mapping[str, str | None], names: tuple[str, ...], seed: int
) -> dict[str, int]:
    """Maps paths to labels for a split's files, in an order that mixes the classes."""
    numbers = {name: number for number, name in enumerate(names)}
    labels = {path: -1 if name is None else numbers[name] for path, name in images.items()}

    def rank(path):
        return hashlib.sha256(f"{seed}/{path}".encode()).hexdigest()

    return {path: labels[path] for path in sorted(labels, key=rank)}


def _evaluated(splits: Mapping[str, Iterable], labelled: bool) -> str | None:
    """Returns the split to evaluate on; it has labels if the training images have labels."""
    for split in _HELD_OUT:
        files = dict(splits.get(split, {}))
        if files and (not labelled or any(label >= 0 for label in files.values())):
            return split
    return None


def _hold_out(files: dict[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Returns the rest, and the first tenth of each class."""
    by_label: dict[int, list[str]] = {}
    for path, label in files.items():
        by_label.setdefault(label, []).append(path)
    held_out = {
        path
        for paths in by_label.values()
        if len(paths) > 1
        for path in paths[: max(1, round(len(paths) / 10))]
    }
    rest, taken = (
        {path: label for path, label in files.items() if (path in held_out) == held}
        for held in (False, True)
    )
    return rest, taken


def _without_readable(
    splits: Mapping[str, list[tuple[str, int]]], names: tuple[str, ...]
) -> Iterator[str]:
    """Yields notes on splits and classes without a readable image."""
    if lost := [split for split, files in splits.items() if not files]:
        yield f"no image of the split {in_words(lost)} can be read"
    known = {label for files in splits.values() for _, label in files}
    if lost := [name for label, name in enumerate(names) if label not in known]:
        yield f"no image of the class {in_words(lost)} can be read"


def _counts(files: list[tuple[str, int]], names: tuple[str, ...]) -> dict[str, int]:
    """Maps class names to their number of images."""
    numbers = collections.Counter(label for _, label in files)
    return {name: numbers[label] for label, name in enumerate(names) if numbers[label]}


def _is_image(path: str) -> bool:
    return path.lower().endswith(EXTENSIONS)
