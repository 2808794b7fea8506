"""Image files of a folder, read by index; damaged files do not end the reading."""

import concurrent.futures
import functools
import hashlib
import os
from collections.abc import Mapping, Sequence

import tensorflow as tf
from absl import logging

from simclrv2_tf.datasets.images import (
    AS_STORED,
    Reading,
    black,
    decode,
    decode_or_black,
    reason,
)
from simclrv2_tf.datasets.sources import DatasetError
from simclrv2_tf.datasets.splits import IndexedSplit


class FolderSplit(IndexedSplit):
    """Image files, some of which may turn out to be damaged.

    Args:
        name: As in `Split`.
        root: The folder.
        skipped: Unreadable files and the reasons; reading adds to them.
        ids: (N,) paths of the files below `root`, with `/`.
        labels: (N,); None: unlabelled.
        converted: The PNG file to read instead of a file, by the file's path.
        reading: How stored samples become an image.
    """

    def __init__(
        self,
        name: str,
        root: str,
        skipped: dict[str, str],
        ids: Sequence[str],
        labels: Sequence[int] | None = None,
        converted: Mapping[str, str] | None = None,
        reading: Reading = AS_STORED,
    ):
        # A subset keeps the positions of its files, which locate the files in memory.
        columns = {"id": tf.constant(ids, tf.string), "place": tf.range(len(ids), dtype=tf.int64)}
        if labels is not None:
            columns["label"] = tf.constant(labels, tf.int64)
        if converted:
            columns["file"] = tf.constant([converted.get(name, "") for name in ids], tf.string)
        super().__init__(
            name, columns, functools.partial(decode, reading=reading), reading.channels
        )
        self._root = root
        self._skipped = skipped
        self._reading = reading
        self._kept = None

    def fingerprint(self):
        """As in `Split`: of the files' paths below the root, labels, and sizes in bytes."""
        ids, labels = self.labels()
        found = hashlib.sha256()
        with concurrent.futures.ThreadPoolExecutor(max_workers=16) as pool:
            sizes = pool.map(self._size, ids.tolist())
            for name, label, size in zip(ids.tolist(), labels.tolist(), sizes, strict=True):
                found.update(f"{name}\0{label}\0{size}\0".encode("utf-8", "surrogateescape"))
        return found.hexdigest()

    def _size(self, name: str) -> int:
        return tf.io.gfile.stat(os.path.join(self._root, name)).length

    def cached(self):
        kept = tf.lookup.experimental.MutableHashTable(tf.int64, tf.string, default_value="")
        return self._with(_kept=kept)

    def load(self, record, replace_unreadable):
        """Same as `Split.load`; raises a `DatasetError` if no file can be read."""
        image, readable = decode_or_black(lambda: self._read(record), self._reading)

        def rescue():
            # Python only runs for damaged files, so it does not slow the others.
            found, readable = tf.py_function(
                lambda index: self._stand_in(int(index), replace_unreadable),
                [record],
                [tf.int64, tf.bool],
            )
            image = tf.cond(
                readable,
                lambda: decode(self._read(found), self._reading),
                lambda: black(self.channels),
            )
            return image, found, readable

        image, found, readable = tf.cond(readable, lambda: (image, record, readable), rescue)
        found.set_shape(())
        readable.set_shape(())
        image = tf.ensure_shape(image, (None, None, self.channels))
        example = self._stored(found)
        return {**example, "image": image, "readable": readable}

    def _read(self, index: tf.Tensor) -> tf.Tensor:
        example = self._stored(index)
        path = tf.strings.join([self._root, example["id"]], separator="/")
        if "file" in example:
            path = tf.where(example["file"] == "", path, example["file"])
        if self._kept is None:
            return tf.io.read_file(path)

        def read_and_keep():
            content = tf.io.read_file(path)
            with tf.control_dependencies([self._kept.insert(example["place"], content)]):
                return tf.identity(content)

        kept = self._kept.lookup(example["place"])
        return tf.cond(kept == "", read_and_keep, lambda: kept)

    def _path(self, index: int) -> str:
        """Returns the file to read for an example."""
        file = self._columns["file"][index].numpy().decode() if "file" in self._columns else ""
        return file or os.path.join(self._root, self._columns["id"][index].numpy().decode())

    def _stand_in(self, index: int, replace_unreadable: bool) -> tuple[int, bool]:
        """Returns the first readable file from `index` on, or (`index`, False); logs the others."""
        for offset in range(self.num_examples if replace_unreadable else 1):
            found = (index + offset) % self.num_examples
            file = self._columns["id"][found].numpy().decode()
            if file in self._skipped:
                continue
            try:
                decode(tf.io.read_file(self._path(found)), self._reading)
            except tf.errors.OpError as error:
                why = reason(error)
                # Another thread may have found the same file.
                if self._skipped.setdefault(file, why) is why:
                    logging.warning("Skipping the unreadable image %s: %s", file, why)
            else:
                return found, True
        if replace_unreadable:
            raise DatasetError(
                f"A split must hold at least one readable image, but none of "
                f"{self.num_examples} can be read. Received: folder:{self._root}"
            )
        return index, False
