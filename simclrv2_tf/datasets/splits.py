"""Selected examples of a data set, in a fixed or a shuffled order.

Shuffled records are functions of their arguments alone. The order is drawn anew in each epoch from
`seed` and the number of the epoch, and epochs follow each other without a gap.
"""

from __future__ import annotations

import abc
import os
from collections.abc import Callable, Iterable, Sequence, Set
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from simclrv2_tf.datasets.sources import DatasetError

if TYPE_CHECKING:
    from simclrv2_tf.datasets.image_files import ImageReader

# Nothing mapped here branches in Python on a tensor, and converting it all, with `augment`, costs
# seconds at each start.
as_is = tf.autograph.experimental.do_not_convert

# What a seed is used for: each use has draws of its own.
ORDER, CROP, VIEW = range(3)

CORES = os.cpu_count() or 1


def fixed_parallelism() -> tf.data.Options:
    """Without tf.data's autotuning, whose thread can sleep through the end of its pipeline.

    It wakes for the cancellation before that is marked and then sleeps on, for up to as long as the
    pipeline has run and a minute at most, while whoever ends the pipeline waits for it.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return options


def seed_for(seed: int, use: int, position) -> tf.Tensor:
    """A (2,) stateless seed for one use at one position; `position` is () int64."""
    return tf.random.fold_in(tf.constant([seed, use], tf.int64), position)


class Split(abc.ABC):
    """Selected examples of a data set, in a fixed order; made by `ImageDataset.split`.

    `subset` and `unlabelled` make further ones of it.

    A *record* is what is shuffled: an index or the still encoded image, small either way.

    Attributes:
        name: What it is called in messages: the specification it was selected by.
        num_examples: Number of examples, over all shards.
        labelled: Whether examples have labels; else every label is -1.
    """

    def __init__(self, name: str, num_examples: int, labelled: bool):
        self.name = name
        self.num_examples = num_examples
        self.labelled = labelled

    def examples(self) -> tf.data.Dataset:
        """Every readable example once, in order.

        Returns:
            A finite data set of `image` (H, W, 3) uint8, `label` () int64 (-1: unlabelled) and `id`
            () string, which stays the same as long as the data does.
        """
        return (
            self.ordered_records((0, 1))
            .map(
                as_is(lambda record: self.load(record, replace_unreadable=False)),
                num_parallel_calls=CORES,
            )
            .filter(lambda example: example["readable"])
            .map(lambda example: {key: example[key] for key in ("image", "label", "id")})
            .with_options(fixed_parallelism())
        )

    @abc.abstractmethod
    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """The ids and labels of all examples, in order; no image is decoded.

        Returns:
            `ids` (N,) str and `labels` (N,) int64, -1 where unlabelled. N is `num_examples`: images
            that turn out to be unreadable are among them.
        """

    def subset(self, ids: Iterable[str]) -> Split:
        """The examples with these ids, in the order of this split.

        An unreadable image is replaced from within the subset, so that no other image and no other
        label comes in. Of a TensorFlow Datasets split the examples are read at once, in one pass
        over all of it, and stay in memory still encoded.

        Args:
            ids: As `labels` gives them, in any order; one that occurs twice counts once.

        Raises:
            DatasetError: When `ids` is empty, or one of them is not in this split.
        """
        wanted = dict.fromkeys(ids)
        if not wanted:
            raise DatasetError(
                f"`ids` must name at least one example of {self.name}. Received: ids=[]"
            )
        subset = self._select(wanted.keys())
        found = set(subset.labels()[0].tolist())
        if missing := [name for name in wanted if name not in found]:
            raise DatasetError(
                f"`ids` must all be examples of {self.name}. Received: {len(wanted)} ids, "
                f"{len(missing)} of them not there, the first {str(missing[0])!r}"
            )
        return subset

    @abc.abstractmethod
    def _select(self, ids: Set[str]) -> Split:
        """The examples with one of these ids, which may be none of them."""

    @abc.abstractmethod
    def unlabelled(self) -> Split:
        """The same examples in the same orders, every label -1: none is read."""

    @abc.abstractmethod
    def cached(self) -> Split:
        """The same split, its encoded examples kept in memory from their first reading on."""

    @abc.abstractmethod
    def shard_size(self, shard: tuple[int, int]) -> int:
        """Number of examples of a shard. The shards are disjoint and differ by at most one."""

    @abc.abstractmethod
    def ordered_records(self, shard: tuple[int, int]) -> tf.data.Dataset:
        """The records of a shard once, in order."""

    @abc.abstractmethod
    def shuffled_records(
        self, seed: int, shard: tuple[int, int], start: int, buffer_size: int
    ) -> tf.data.Dataset:
        """The records of a shard for ever, shuffled in each epoch, from element `start` on.

        `buffer_size` records are shuffled at a time where the source can only be read in order;
        where it can be read anywhere, the whole epoch is.
        """

    @abc.abstractmethod
    def load(self, record, replace_unreadable: bool) -> dict[str, tf.Tensor]:
        """Decodes a record: `image` (H, W, 3) uint8, `label`, `id`, and `readable` () bool.

        An unreadable image is replaced by another of the split, or returned as not readable.
        """


class MemoryReader:
    """Reads examples that are in memory by index, as `image_files.ImageReader` does from disk.

    Args:
        ids: (N,) string.
        images: (N, ...), the images as they are stored.
        labels: (N,) int64, or None: unlabelled.
        decode: Makes one stored image (H, W, 3) uint8.
    """

    def __init__(
        self, ids: tf.Tensor, images: tf.Tensor, labels: tf.Tensor | None, decode: Callable
    ):
        self._ids = ids
        self._images = images
        self._labels = labels
        self._decode = decode

    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """As `Split.labels`."""
        ids = np.array([name.decode() for name in self._ids.numpy()], np.str_)
        if self._labels is None:
            return ids, np.full(len(ids), -1, np.int64)
        return ids, self._labels.numpy()

    def load(self, index: tf.Tensor, replace_unreadable: bool) -> dict[str, tf.Tensor]:
        """As `Split.load`, for a () int64 index."""
        del replace_unreadable  # none is
        unlabelled = tf.constant(-1, tf.int64)
        return {
            "image": self._decode(self._images[index]),
            "label": unlabelled if self._labels is None else self._labels[index],
            "id": self._ids[index],
            "readable": tf.constant(True),
        }

    def select(self, indices: Sequence[int]) -> MemoryReader:
        """A reader of these examples and no others."""
        indices = tf.constant(indices, tf.int64)
        return MemoryReader(
            tf.gather(self._ids, indices),
            tf.gather(self._images, indices),
            None if self._labels is None else tf.gather(self._labels, indices),
            self._decode,
        )

    def unlabelled(self) -> MemoryReader:
        """A reader of the same examples that does not hold their labels."""
        return MemoryReader(self._ids, self._images, None, self._decode)

    def cached(self) -> MemoryReader:
        """A reader that keeps examples in memory: this one."""
        return self


class IndexedSplit(Split):
    """Examples that can be read in any order; a record is an index.

    An epoch is one permutation for all shards, and the shards take turns: with any number of them,
    the batches of all together hold the same examples, with the same crops, at every step.
    """

    def __init__(
        self, name: str, num_examples: int, labelled: bool, reader: MemoryReader | ImageReader
    ):
        super().__init__(name, num_examples, labelled)
        self._reader = reader

    def labels(self):
        return self._reader.labels()

    def _select(self, ids):
        own, _ = self.labels()
        indices = [index for index, name in enumerate(own.tolist()) if name in ids]
        reader = self._reader.select(indices)
        return IndexedSplit(f"a subset of {self.name}", len(indices), self.labelled, reader)

    def unlabelled(self) -> Split:
        return IndexedSplit(self.name, self.num_examples, False, self._reader.unlabelled())

    def cached(self) -> Split:
        return IndexedSplit(self.name, self.num_examples, self.labelled, self._reader.cached())

    def shard_size(self, shard):
        index, count = shard
        return len(range(index, self.num_examples, count))

    def ordered_records(self, shard):
        index, count = shard
        return tf.data.Dataset.range(index, self.num_examples, count)

    def shuffled_records(self, seed, shard, start, buffer_size):
        del buffer_size
        index, count = shard
        first_epoch, offset = divmod(start * count + index, self.num_examples)

        @as_is
        def epoch_records(epoch):
            order = tf.random.experimental.stateless_shuffle(
                tf.range(self.num_examples, dtype=tf.int64), seed_for(seed, ORDER, epoch)
            )
            begin = tf.where(epoch == first_epoch, tf.constant(offset, tf.int64), 0)
            return tf.data.Dataset.from_tensor_slices(order[begin:])

        return tf.data.Dataset.counter(first_epoch).flat_map(epoch_records).shard(count, 0)

    def load(self, record, replace_unreadable):
        return self._reader.load(record, replace_unreadable)
