"""Folders of image files: layout and health check."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import time

import tensorflow as tf
from absl import logging

from simclrv2_tf.datasets.image_files import ImageFile, ImageFolder, ImageReader
from simclrv2_tf.datasets.images import EXTENSIONS, why_unreadable
from simclrv2_tf.datasets.sources import HELD_OUT_SPLITS, DatasetError, ImageDataset, Range
from simclrv2_tf.datasets.splits import IndexedSplit, Split


def open_dataset(name: str, data_dir: str | None, seed: int) -> ImageDataset:
    """Opens `folder:PATH`, see `scan`."""
    del data_dir
    path = name.removeprefix("folder:")
    if not path:
        raise DatasetError(f"`dataset` must be folder:PATH. Received: dataset={name!r}")
    folder = scan(path, seed)

    def select(spec: str, ranges: list[Range]) -> Split:
        files = [file for split, begin, end in ranges for file in folder.splits[split][begin:end]]
        reader = ImageReader(folder, files)
        return IndexedSplit(spec, len(files), bool(folder.class_names), reader)

    sizes = {split: len(files) for split, files in folder.splits.items()}
    return ImageDataset(name, folder.class_names, sizes, select, folder.skipped)


def open_images(path: str) -> Split:
    """The images below a folder, at any depth, or of one file, without labels; sorted by path.

    Their ids, which `labels` gives, are the paths below the folder.

    Raises:
        DatasetError: When there are none.
    """
    root, paths = find_images(path)
    files = [ImageFile(below, -1) for below in paths]
    folder = ImageFolder(root, (), {"images": files}, {})
    return IndexedSplit(path, len(files), False, ImageReader(folder, files))


def scan(root: str | os.PathLike, seed: int = 0) -> ImageFolder:
    """Lists a folder of images and checks that each file is whole.

    Class folders (searched to any depth) hold the images of a class; a folder without subfolders
    of images is an unlabelled set. They stand in `train/`, with `validation/`, `val/` or `test/`
    beside it, or directly in the root. Where nothing is held out, a tenth of each class (at least
    one image of two) becomes the split `test`. That choice, and the order of the files, depend on
    the seed and on each file's path below the root only, so that they are the same on every machine
    and an added file moves few others.

    The check reads the beginning and the end of each file, and decodes those that look wrong.
    An unreadable file is named in a warning and left out.

    Args:
        root: The folder; also a remote one that `tf.io.gfile` reads.
        seed: Seed of the order and of the held-out tenth.

    Returns:
        An `ImageFolder`.

    Raises:
        DatasetError: When the folder is missing, holds no readable image, or is laid out so that
            the labels of its splits do not agree.
    """
    root = os.path.expanduser(os.fspath(root))
    if not tf.io.gfile.isdir(root):
        raise DatasetError(f"The image folder must be an existing folder. Received: folder:{root}")
    found = _find_images(root)
    class_names = tuple(sorted(found["train"])) if None not in found["train"] else ()

    splits = {}
    for split, classes in found.items():
        files = [
            ImageFile(path, class_names.index(name) if class_names else -1)
            for name, paths in classes.items()
            for path in paths
        ]
        splits[split] = sorted(files, key=lambda file: _rank(file, seed))
    if len(splits) == 1:
        splits = _hold_out(splits["train"])

    every_file = [file for files in splits.values() for file in files]
    skipped = _unreadable(root, every_file)
    if len(skipped) == len(every_file):
        example, reason = next(iter(skipped.items()))
        raise DatasetError(
            f"The image folder must hold at least one readable image, but none of its "
            f"{len(every_file)} can be read ({example}: {reason}). Received: folder:{root}"
        )
    if skipped:
        logging.warning("Skipped %d of %d images of %s.", len(skipped), len(every_file), root)
    readable = {
        split: [file for file in files if file.id not in skipped] for split, files in splits.items()
    }
    if not readable["train"]:
        raise DatasetError(
            f"The split train of an image folder must hold at least one readable image. "
            f"Received: folder:{root}"
        )
    return ImageFolder(
        root, class_names, {split: files for split, files in readable.items() if files}, skipped
    )


def _rank(file: ImageFile, seed: int) -> str:
    return hashlib.sha256(f"{seed}/{file.id}".encode()).hexdigest()


def _hold_out(files: list[ImageFile]) -> dict[str, list[ImageFile]]:
    """Moves the first tenth of each class to a split `test`."""
    by_label: dict[int, list[ImageFile]] = {}
    for file in files:
        by_label.setdefault(file.label, []).append(file)
    held_out = {
        file
        for members in by_label.values()
        if len(members) > 1
        for file in members[: max(1, round(len(members) / 10))]
    }
    return {
        "train": [file for file in files if file not in held_out],
        "test": [file for file in files if file in held_out],
    }


def find_images(path: str | os.PathLike) -> tuple[str, list[str]]:
    """Lists the images below a folder, at any depth; or that one file.

    Args:
        path: A folder, or a file of any name; also a remote one that `tf.io.gfile` reads.

    Returns:
        The folder, and sorted paths below it.

    Raises:
        DatasetError: When there is nothing, or no image in it.
    """
    path = os.path.expanduser(os.fspath(path))
    if not tf.io.gfile.exists(path):
        raise DatasetError(f"Images must be in an existing folder or file. Received: {path}")
    if not tf.io.gfile.isdir(path):
        return os.path.dirname(path) or ".", [os.path.basename(path)]
    found, _ = _walk(path, "")
    if not found:
        raise DatasetError(
            f"A folder of images must hold some ({', '.join(EXTENSIONS)}). Received: {path}"
        )
    return path, sorted(found)


def _list(directory: str) -> tuple[list[str], list[str], int]:
    """Sorted names of the images and subfolders of a folder, and the number of other files."""
    images, folders, others = [], [], 0
    for name in sorted(entry.rstrip("/") for entry in tf.io.gfile.listdir(directory)):
        if name.startswith("."):
            continue
        if name.lower().endswith(EXTENSIONS):
            images.append(name)
        elif tf.io.gfile.isdir(os.path.join(directory, name)):
            folders.append(name)
        else:
            others += 1
    return images, folders, others


def _walk(root: str, folder: str) -> tuple[list[str], int]:
    """Paths of all images below a folder, from the root, and the number of other files."""
    pending, paths, others = [folder], [], 0
    while pending:
        current = pending.pop()
        images, folders, others_here = _list(os.path.join(root, current))
        paths += [_join(current, image) for image in images]
        pending += [_join(current, name) for name in folders]
        others += others_here
    return paths, others


def _find_images(root: str) -> dict[str, dict[str | None, list[str]]]:
    """Split name -> class name -> paths below the root; the class None means unlabelled."""
    images, folders, others = _list(root)
    if "train" in folders:
        split_folders = {name: name for name in ("train", *HELD_OUT_SPLITS) if name in folders}
        ignored = [name for name in folders if name not in split_folders]
        if images or ignored:
            logging.warning(
                "%s has a train folder, so only %s are read; left aside: %s.",
                root,
                ", ".join(split_folders),
                ", ".join([*ignored, *([f"{len(images)} loose images"] if images else [])]),
            )
    elif held_out := [name for name in HELD_OUT_SPLITS if name in folders]:
        raise DatasetError(
            f"An image folder with {held_out[0]}/ must have train/ beside it. "
            f"Received: folder:{root} with {', '.join(folders)}"
        )
    else:
        split_folders = {"train": ""}

    found = {}
    for split, folder in split_folders.items():
        classes, split_others = _find_classes(root, folder)
        others += split_others
        if classes:
            found[split] = classes
    if "train" not in found:
        raise DatasetError(
            f"The image folder must hold images ({', '.join(EXTENSIONS)}), directly or in class "
            f"folders. Received: folder:{root} with none, and {others} other files"
        )
    if others:
        logging.warning("%s: %d files are not %s; ignored.", root, others, ", ".join(EXTENSIONS))
    for split, classes in found.items():
        if (None in classes) != (None in found["train"]):
            raise DatasetError(
                f"Either all splits of an image folder or none must have class folders; train/ and "
                f"{split}/ differ. Received: folder:{root}"
            )
        if unknown := sorted(set(classes) - set(found["train"]), key=str):
            raise DatasetError(
                f"The classes of {split}/ must all be in train/; {unknown[0]} is not. "
                f"Received: folder:{root}"
            )
    return found


def _find_classes(root: str, folder: str) -> tuple[dict[str | None, list[str]], int]:
    images, subfolders, others = _list(os.path.join(root, folder))
    classes: dict[str | None, list[str]] = {}
    for name in subfolders:
        paths, others_below = _walk(root, _join(folder, name))
        others += others_below
        if paths:
            classes[name] = paths
        else:
            logging.warning("%s: the folder %s has no images; ignored.", root, _join(folder, name))
    if classes and images:
        logging.warning(
            "%s: %d images outside the class folders are ignored.",
            os.path.join(root, folder),
            len(images),
        )
    if not classes and images:
        classes[None] = [_join(folder, image) for image in images]
    return classes, others


def _join(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def _unreadable(root: str, files: list[ImageFile]) -> dict[str, str]:
    """Ids of the files that cannot be read, with the reason; each is named in a warning."""
    skipped = {}
    last_report = time.monotonic()
    chunk = 10_000
    with concurrent.futures.ThreadPoolExecutor(max_workers=16) as pool:
        for begin in range(0, len(files), chunk):
            part = files[begin : begin + chunk]
            reasons = pool.map(lambda file: why_unreadable(os.path.join(root, file.id)), part)
            for file, reason in zip(part, reasons, strict=True):
                if reason:
                    logging.warning("Skipping the unreadable image %s: %s", file.id, reason)
                    skipped[file.id] = reason
            if time.monotonic() - last_report > 10:
                last_report = time.monotonic()
                logging.info("Checked %d of %d images of %s.", begin + len(part), len(files), root)
    return skipped
