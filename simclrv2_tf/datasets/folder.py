"""Folders of image files: their layout, and a check that each file is whole."""

import hashlib
import os
import posixpath

import tensorflow as tf
from absl import logging

from simclrv2_tf.datasets.checked_files import check_files, check_range
from simclrv2_tf.datasets.conversion import cache_folder
from simclrv2_tf.datasets.folder_split import FolderSplit
from simclrv2_tf.datasets.folder_tree import FolderTree
from simclrv2_tf.datasets.images import EXTENSIONS, Reading
from simclrv2_tf.datasets.sources import (
    HELD_OUT_SPLITS,
    DatasetError,
    ImageDataset,
    Range,
    ValueRange,
)
from simclrv2_tf.datasets.splits import Split


def open_dataset(
    name: str, data_dir: str | None, split_seed: int, value_range: ValueRange = None
) -> ImageDataset:
    """Opens `folder:PATH`: lists the images of a folder and checks that each file is whole.

    Class folders (searched to any depth) hold the images of a class; a folder without subfolders
    of images is an unlabelled set. These lie in `train/`, with `validation/`, `val/` or `test/`
    beside it, or directly in PATH, which may be remote. Where nothing is held out, a tenth of each
    class (at least one image of two) becomes the split `test`. That choice, and the order of the
    files, depend on `split_seed` and on each file's path below PATH only: they are the same on
    every machine, and an added file moves few others. Unreadable files are skipped with a warning,
    and links to what is read already, see `FolderTree`. Files that TensorFlow does not read are
    converted once, see `conversion`.

    Raises:
        DatasetError: The folder is missing, holds no readable image, or is laid out so that the
            labels of its splits do not agree.
    """
    root = os.path.expanduser(name.removeprefix("folder:"))
    if not root:
        raise DatasetError(f"`dataset` must be folder:PATH. Received: dataset={name!r}")
    if not tf.io.gfile.isdir(root):
        raise _wrong(root, "The image folder must be an existing folder.")
    found = _find_images(root)
    class_names = tuple(sorted(name for name in found["train"] if name is not None))
    splits = {
        split: _labelled(classes, class_names, split_seed) for split, classes in found.items()
    }
    holds_out = len(splits) == 1
    if holds_out:
        splits = _hold_out(splits["train"])

    paths = [path for files in splits.values() for path in files]
    checked = check_files(root, paths, cache_folder(data_dir))
    skipped = checked.skipped
    if len(skipped) == len(paths):
        example, reason = next(iter(skipped.items()))
        raise _wrong(
            root,
            f"The image folder must hold at least one readable image, but none of its "
            f"{len(paths)} can be read ({example}: {reason}).",
        )
    if skipped:
        logging.warning("Skipped %d of %d images of %s.", len(skipped), len(paths), root)
    readable = {
        split: [(path, label) for path, label in files.items() if path not in skipped]
        for split, files in splits.items()
    }
    if not readable["train"]:
        raise _wrong(root, "The split train of an image folder must hold a readable image.")

    def select(spec: str, ranges: list[Range]) -> Split:
        files = [file for split, begin, end in ranges for file in readable[split][begin:end]]
        ids, labels = zip(*files, strict=True)
        known = labels if class_names else None
        return FolderSplit(spec, root, skipped, ids, known, checked.converted, Reading(value_range))

    check_range(root, [file for file, _ in readable["train"]], checked.converted, value_range)
    sizes = {split: len(files) for split, files in readable.items() if files}
    return ImageDataset(name, class_names, sizes, select, skipped, holds_out)


def open_images(path: str, data_dir: str | None = None, value_range: ValueRange = None) -> Split:
    """The images below a folder, at any depth, or of one file, without labels; sorted by path.

    Their ids are the paths below the folder. `path` may be remote. Files that TensorFlow does not
    read are converted to below `data_dir`, by default the user's cache.

    Raises:
        DatasetError: There are no images.
    """
    root = os.path.expanduser(path)
    if not tf.io.gfile.exists(root):
        raise DatasetError(f"Images must be in an existing folder or file. Received: {root}")
    if not tf.io.gfile.isdir(root):
        return _images(
            path, os.path.dirname(root) or ".", [os.path.basename(root)], data_dir, value_range
        )
    if not (ids := sorted(filter(_is_image, FolderTree(root, _is_image).walk("")))):
        formats = ", ".join(EXTENSIONS)
        raise DatasetError(f"A folder of images must hold some ({formats}). Received: {root}")
    return _images(path, root, ids, data_dir, value_range)


def _images(
    name: str, root: str, ids: list[str], data_dir: str | None, value_range: ValueRange
) -> FolderSplit:
    checked = check_files(root, ids, cache_folder(data_dir), decode=False)
    reading = Reading(value_range)
    return FolderSplit(
        name, root, checked.skipped, ids, converted=checked.converted, reading=reading
    )


def _wrong(root: str, rule: str, found: str = "") -> DatasetError:
    return DatasetError(f"{rule} Received: folder:{root}{found}")


def _labelled(
    classes: dict[str | None, list[str]], names: tuple[str, ...], seed: int
) -> dict[str, int]:
    """Path -> label of a split's files, in an order that mixes the classes."""
    labels = {
        path: names.index(name) if names else -1
        for name, paths in classes.items()
        for path in paths
    }

    def rank(path):
        return hashlib.sha256(f"{seed}/{path}".encode()).hexdigest()

    return {path: labels[path] for path in sorted(labels, key=rank)}


def _hold_out(files: dict[str, int]) -> dict[str, dict[str, int]]:
    """Moves the first tenth of each class to a split `test`."""
    by_label: dict[int, list[str]] = {}
    for path, label in files.items():
        by_label.setdefault(label, []).append(path)
    held_out = {
        path
        for paths in by_label.values()
        if len(paths) > 1
        for path in paths[: max(1, round(len(paths) / 10))]
    }
    return {
        split: {path: label for path, label in files.items() if (path in held_out) == held}
        for split, held in (("train", False), ("test", True))
    }


def _is_image(path: str) -> bool:
    return path.lower().endswith(EXTENSIONS)


def _find_images(root: str) -> dict[str, dict[str | None, list[str]]]:
    """Split name -> class name -> paths below the root; the class None means unlabelled."""
    tree = FolderTree(root, _is_image)
    files, folders = tree.list("")
    others = 0
    split_folders = {"train": ""}
    held_out = [name for name in HELD_OUT_SPLITS if name in folders]
    if "train" in folders:
        split_folders = {name: name for name in ("train", *held_out)}
        ignored = [name for name in folders if name not in split_folders]
        images = len(list(filter(_is_image, files)))
        others = len(files) - images
        if images or ignored:
            logging.warning(
                "%s has a train folder, so only %s are read; left aside: %s.",
                root,
                ", ".join(split_folders),
                ", ".join([*ignored, *([f"{images} loose images"] if images else [])]),
            )
    elif held_out:
        rule = f"An image folder with {held_out[0]}/ must have train/ beside it."
        raise _wrong(root, rule, f" with {', '.join(folders)}")
    found = {}
    for split, folder in split_folders.items():
        classes, others_here = _find_classes(tree, folder)
        others += others_here
        if classes:
            found[split] = classes
    formats = ", ".join(EXTENSIONS)
    if "train" not in found:
        rule = f"The image folder must hold images ({formats}), directly or in class folders."
        raise _wrong(root, rule, f" with none, and {others} other files")
    if others:
        logging.warning("%s: %d files are not %s; ignored.", root, others, formats)
    for split, classes in found.items():
        if (None in classes) != (None in found["train"]):
            raise _wrong(
                root,
                "Either all splits of an image folder or none must have class folders; train/ and "
                f"{split}/ differ.",
            )
        if unknown := sorted(set(classes) - set(found["train"]), key=str):
            rule = f"The classes of {split}/ must all be in train/; {unknown[0]} is not."
            raise _wrong(root, rule)
    return found


def _find_classes(tree: FolderTree, folder: str) -> tuple[dict[str | None, list[str]], int]:
    """Class name -> paths of the images of a split, and the number of other files."""
    root = tree.root
    loose, folders = tree.list(folder)
    classes, others = {}, 0
    for below, files in ((None, loose), *((path, list(tree.walk(path))) for path in folders)):
        images = list(filter(_is_image, files))
        others += len(files) - len(images)
        if images:
            classes[below and posixpath.basename(below)] = images
        elif below:
            logging.warning("%s: the folder %s has no images; ignored.", root, below)
    if len(classes) > 1 and (images := classes.pop(None, [])):
        path = os.path.join(root, folder)
        logging.warning("%s: %d images outside the class folders are ignored.", path, len(images))
    return classes, others
