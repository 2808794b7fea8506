"""Image files of a folder: reading by index that survives a damaged file."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from simclrv2_tf.datasets.images import decode_rgb, reason
from simclrv2_tf.datasets.sources import DatasetError
from simclrv2_tf.datasets.splits import as_is


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
            replace_unreadable: What happens where the file is damaged. True: the next readable
                file stands in for it, so that the number of examples, and with it every later
                position in the data, stays what it was. False: `readable` is false and the image
                is black.

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
            .map(as_is(lambda index: (decode_rgb(self._read(index)), True)))
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
                why = reason(error)
                # Another thread may have met the same file.
                if self._folder.skipped.setdefault(file.id, why) is why:
                    logging.warning("Skipping the unreadable image %s: %s", file.id, why)
            else:
                return found, True
        if replace_unreadable:
            raise DatasetError(
                f"A split must hold at least one readable image, but none of "
                f"{len(self._files)} can be read. Received: folder:{self._folder.root}"
            )
        return index, False
