"""Folders of JPEG and PNG files: layout, health check, and reading that survives a bad file."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import os
import re
import time
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from simclrv2_tf.errors import UserError

# Nothing here branches in Python on a tensor, so nothing needs converting.
_as_is = tf.autograph.experimental.do_not_convert

EXTENSIONS = (".jpg", ".jpeg", ".png")
HELD_OUT_SPLITS = ("validation", "val", "test")

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_SIGNATURE = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"


class DatasetError(UserError):
    """A data set that cannot be used as asked; the message is one line, meant for the user."""


# --- Decoding ---------------------------------------------------------------------------------


def decode_rgb(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes one image file to 8-bit RGB, the pixels as they are stored.

    Gray becomes RGB, transparency is composited over white, CMYK is converted, 16-bit samples keep
    their high byte, and an EXIF orientation is ignored. An animation gives its first frame.

    Args:
      encoded: () string, the bytes of a JPEG or PNG file (or another that TensorFlow reads).

    Returns:
      (H, W, 3) uint8.

    Raises:
      tf.errors.OpError: When the bytes are not an image, or only the beginning of one.
    """
    signature = tf.strings.substr(encoded, 0, len(_PNG_SIGNATURE))
    image = tf.cond(
        signature == _PNG_SIGNATURE,
        lambda: _decode_png(encoded),
        lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
    )
    return tf.ensure_shape(image, (None, None, 3))


def _decode_png(encoded: tf.Tensor) -> tf.Tensor:
    # Asked for an alpha that is not there, TensorFlow fills in 2^depth - 1, which is nearly
    # transparent below 8 bits a sample. So ask only where there is one: a color type with the alpha
    # bit, or a tRNS chunk, whose length is at most 256.
    color_type = tf.strings.substr(encoded, 25, 1)
    transparent = (
        (color_type == b"\x04")
        | (color_type == b"\x06")
        | tf.strings.regex_full_match(encoded, r"\C*\x00\x00[\x00\x01]\CtRNS\C*")
    )
    return tf.cond(
        transparent,
        lambda: _over_white(tf.io.decode_png(encoded, channels=4)),
        lambda: tf.io.decode_png(encoded, channels=3),
    )


def _over_white(rgba: tf.Tensor) -> tf.Tensor:
    rgba = tf.cast(rgba, tf.int32)
    rgb, alpha = rgba[..., :3], rgba[..., 3:]
    return tf.cast((rgb * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


def _reason(error: Exception) -> str:
    """The first line of a TensorFlow error, without the name of the op that raised it."""
    message = getattr(error, "message", None) or str(error)
    message = re.sub(r"^\{\{.*?\}\}\s*", "", message).split("\n")[0]
    return re.sub(r"\s*\[Op:\w+\].*$", "", message)


# --- Layout -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class ImageFile:
    """One image file: its id (path below the root, with `/`) and label (-1: unlabelled)."""

    id: str
    label: int


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """What a scan of a folder found.

    Attributes:
      root: The folder.
      class_names: Sorted names of the class folders; empty for unlabelled images.
      splits: Split name -> its readable files, in an order that mixes the classes.
      skipped: Ids of the unreadable files found so far, with the reason; reading adds to it.
    """

    root: str
    class_names: tuple[str, ...]
    splits: dict[str, list[ImageFile]]
    skipped: dict[str, str]


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
        by_label: dict[int, list[ImageFile]] = {}
        for file in splits["train"]:
            by_label.setdefault(file.label, []).append(file)
        held_out = {
            file
            for members in by_label.values()
            if len(members) > 1
            for file in members[: max(1, round(len(members) / 10))]
        }
        splits = {
            "train": [file for file in splits["train"] if file not in held_out],
            "test": [file for file in splits["train"] if file in held_out],
        }

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
    pending, found = [""], []
    while pending:
        current = pending.pop()
        images, folders, _ = _list(os.path.join(path, current))
        found += [_join(current, image) for image in images]
        pending += [_join(current, folder) for folder in folders]
    if not found:
        raise DatasetError(
            f"A folder of images must hold some ({', '.join(EXTENSIONS)}). Received: {path}"
        )
    return path, sorted(found)


def _list(directory: str) -> tuple[list[str], list[str], int]:
    """Sorted names of the images and of the subfolders of a folder, and how many files are left."""
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
        pending, paths = [_join(folder, name)], []
        while pending:
            current = pending.pop()
            below_images, below_folders, below_others = _list(os.path.join(root, current))
            paths += [_join(current, image) for image in below_images]
            pending += [_join(current, below) for below in below_folders]
            others += below_others
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


# --- Health -----------------------------------------------------------------------------------


def _unreadable(root: str, files: list[ImageFile]) -> dict[str, str]:
    """Ids of the files that cannot be read, with the reason; each is named in a warning."""
    skipped = {}
    last_report = time.monotonic()
    chunk = 10_000
    with concurrent.futures.ThreadPoolExecutor(max_workers=16) as pool:
        for begin in range(0, len(files), chunk):
            part = files[begin : begin + chunk]
            reasons = pool.map(lambda file: _why_unreadable(os.path.join(root, file.id)), part)
            for file, reason in zip(part, reasons, strict=True):
                if reason:
                    logging.warning("Skipping the unreadable image %s: %s", file.id, reason)
                    skipped[file.id] = reason
            if time.monotonic() - last_report > 10:
                last_report = time.monotonic()
                logging.info("Checked %d of %d images of %s.", begin + len(part), len(files), root)
    return skipped


def _why_unreadable(path: str) -> str | None:
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            head = file.read(len(_PNG_SIGNATURE))
            file.seek(max(0, file.size() - 64))
            tail = file.read()
        # The end marker of a JPEG cannot occur inside its compressed data.
        if head.startswith(_JPEG_SIGNATURE) and _JPEG_END in tail:
            return None
        if head == _PNG_SIGNATURE and b"IEND" in tail:
            return None
        decode_rgb(tf.io.read_file(path))
    except tf.errors.OpError as error:
        return _reason(error)
    return None


class ImageReader:
    """Reads the files of one split by index, and survives those that turn out to be damaged.

    Args:
      folder: The `ImageFolder` the files belong to; unreadable files are added to its `skipped`.
      files: The files, in the order of their indices.
      keep: Whether the bytes of a file stay in memory once it is read.
    """

    def __init__(self, folder: ImageFolder, files: list[ImageFile], keep: bool = False):
        self._folder = folder
        self._files = files
        self._ids = tf.constant([file.id for file in files], tf.string)
        self._labels = tf.constant([file.label for file in files], tf.int64)
        self._kept = (
            tf.lookup.experimental.MutableHashTable(tf.int64, tf.string, default_value="")
            if keep
            else None
        )

    def cached(self) -> ImageReader:
        """The same reader, with every file kept in memory from its first reading on."""
        return ImageReader(self._folder, self._files, keep=True)

    def select(self, indices: Sequence[int]) -> ImageReader:
        """A reader of some of the files, which alone stand in for those of them that are damaged.

        Args:
          indices: The files, in their new order.
        """
        return self._of([self._files[index] for index in indices])

    def unlabelled(self) -> ImageReader:
        """A reader of the same files with every label -1."""
        return self._of([dataclasses.replace(file, label=-1) for file in self._files])

    def _of(self, files: list[ImageFile]) -> ImageReader:
        return ImageReader(self._folder, files, keep=self._kept is not None)

    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """The ids (N,) str and labels (N,) int64 of all files, damaged or not; none is opened."""
        ids = np.array([file.id for file in self._files], np.str_)
        return ids, np.array([file.label for file in self._files], np.int64)

    def load(self, index: tf.Tensor, replace_unreadable: bool) -> dict[str, tf.Tensor]:
        """The example of an index; for use inside a `tf.data` function.

        Args:
          index: () int64.
          replace_unreadable: What happens where the file is damaged. True: the next readable file
            stands in for it, so that the number of examples, and with it every later position in
            the data, stays what it was. False: `readable` is false and the image is black.

        Returns:
          `image` (H, W, 3) uint8, `label` () int64, `id` () string, `readable` () bool.

        Raises:
          DatasetError: When the data set is read and no file of the split is readable.
        """
        black = tf.zeros((32, 32, 3), tf.uint8)
        # An op that fails stops the pipeline, and `ignore_errors` on it would lose the place of
        # the example. In a data set of one the error costs that one, and the next is the answer.
        image, readable = (
            tf.data.Dataset.from_tensors(index)
            .map(_as_is(lambda index: (decode_rgb(self._read(index)), True)))
            .ignore_errors()
            .concatenate(tf.data.Dataset.from_tensors((black, False)))
            .take(1)
            .get_single_element()
        )

        def rescue():
            # Python runs for damaged files only, so it does not hold up the rest.
            found, readable = tf.py_function(
                lambda index: self._stand_in(int(index), replace_unreadable),
                [index],
                [tf.int64, tf.bool],
            )
            image = tf.cond(readable, lambda: decode_rgb(self._read(found)), lambda: black)
            return image, found, readable

        image, found, readable = tf.cond(readable, lambda: (image, index, readable), rescue)
        found.set_shape(())
        readable.set_shape(())
        return {
            "image": tf.ensure_shape(image, (None, None, 3)),
            "label": self._labels[found],
            "id": self._ids[found],
            "readable": readable,
        }

    def _read(self, index: tf.Tensor) -> tf.Tensor:
        path = tf.strings.join([self._folder.root, self._ids[index]], separator="/")
        if self._kept is None:
            return tf.io.read_file(path)

        def read_and_keep():
            content = tf.io.read_file(path)
            with tf.control_dependencies([self._kept.insert(index, content)]):
                return tf.identity(content)

        kept = self._kept.lookup(index)
        return tf.cond(kept == "", read_and_keep, lambda: kept)

    def _stand_in(self, index: int, replace_unreadable: bool) -> tuple[int, bool]:
        """The first readable file from `index` on, or (`index`, False); reports the others."""
        for offset in range(len(self._files) if replace_unreadable else 1):
            found = (index + offset) % len(self._files)
            file = self._files[found]
            if file.id in self._folder.skipped:
                continue
            try:
                decode_rgb(tf.io.read_file(os.path.join(self._folder.root, file.id)))
            except tf.errors.OpError as error:
                reason = _reason(error)
                # Another thread may have met the same file.
                if self._folder.skipped.setdefault(file.id, reason) is reason:
                    logging.warning("Skipping the unreadable image %s: %s", file.id, reason)
            else:
                return found, True
        if replace_unreadable:
            raise DatasetError(
                f"A split must hold at least one readable image, but none of "
                f"{len(self._files)} can be read. Received: folder:{self._folder.root}"
            )
        return index, False
