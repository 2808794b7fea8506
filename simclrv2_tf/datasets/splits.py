"""Selected examples of a data set, in a fixed or a shuffled order.

Each epoch draws a new order of its shuffled records, which depends only on `seed` and the number of
the epoch. Epochs follow each other without a gap.
"""

from __future__ import annotations

import abc
import copy
import hashlib
import os
from collections.abc import Callable, Hashable, Iterable, Set
from typing import Any

import numpy as np
import tensorflow as tf

from simclrv2_tf.channels import RGB
from simclrv2_tf.datasets.balance import balanced_order
from simclrv2_tf.datasets.sources import DatasetError

# Functions mapped here do not branch in Python on a tensor. Converting them, and `augment`, with
# AutoGraph would add seconds to each start.
as_is = tf.autograph.experimental.do_not_convert

# The uses of a seed: each use has its own draws.
ORDER, CROP, VIEW = range(3)

CORES = os.cpu_count() or 1


def fixed_parallelism() -> tf.data.Options:
    """Options of every pipeline here: it ends immediately, and only holds what `buffers` counts.

    Autotuning is off, because its thread can delay a pipeline's end by up to a minute. `map` and
    `batch` are not fused, because the fused operation can keep several more batches than
    documented.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.map_and_batch_fusion = False
    return options


def seed_for(seed: int, use: int, position) -> tf.Tensor:
    """Returns a (2,) stateless seed for one use at one position; `position` is () int64."""
    return tf.random.fold_in(tf.constant([seed, use], tf.int64), position)


class Split(abc.ABC):
    """Selected examples of a data set, in a fixed order; made by `ImageDataset.split`.

    A *record*, which is small enough to shuffle, is an index or an encoded example.

    Attributes:
        name: The specification that selected the split, for messages.
        num_examples: Number of examples, over all shards.
        labelled: Whether examples have labels; if not, every label is -1.
        channels: C, the channels of the images.
        reads_by_id: Whether single examples can be read, so that a subset needs no copy.
    """

    reads_by_id = False

    def __init__(self, name: str, num_examples: int, labelled: bool, channels: int = RGB):
        self.name = name
        self.num_examples = num_examples
        self.labelled = labelled
        self.channels = channels
        self._made: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Returns the result of `make`, cached by `key`.

        For pipelines, which take as long to build as a short stage to train: stages of a run that
        read the same examples in the same way share one. Iterators start from the beginning.
        """
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def examples(self) -> tf.data.Dataset:
        """Returns every readable example once, in order: `image` (H, W, C) uint8, `label` and `id`.

        `label` is () int64, -1 if unlabelled; `id` is () string, the same for the same data.
        """
        load = as_is(lambda record: self.load(record, replace_unreadable=False))
        return (
            self.ordered_records((0, 1))
            .map(load, num_parallel_calls=CORES)
            .filter(lambda example: example["readable"])
            .map(lambda example: {key: example[key] for key in ("image", "label", "id")})
            .with_options(fixed_parallelism())
        )

    def subset(self, ids: Iterable[str]) -> Split:
        """Returns the examples with these ids, in the order of this split.

        An unreadable image is replaced from within the subset, so that no other label is used. A
        TensorFlow Datasets split is read immediately, in one pass, and the subset stays in memory
        in encoded form.

        Args:
            ids: Ids as in `labels`, in any order; repeated ids count once.

        Raises:
            DatasetError: `ids` is empty, or one of them is not in this split.
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
                f"{len(missing)} of them not in the split, the first {str(missing[0])!r}"
            )
        return subset

    def _with(self, **attributes) -> Split:
        other = copy.copy(self)
        vars(other).update(_made={}, **attributes)
        return other

    @property
    def num_labels(self) -> int | None:
        """Number of examples with a label; None if counting requires reading the data."""
        return None if self.labelled else 0

    @abc.abstractmethod
    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ids (N,) str and labels (N,) int64 of all examples, in order, without
        decoding.

        Includes images that later prove unreadable.
        """

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 of ids, labels and sizes, to compare examples without decoding images.

        It depends neither on the machine nor on the location of the data.
        """

    @abc.abstractmethod
    def _select(self, ids: Set[str]) -> Split:
        """Returns the examples with one of these ids, possibly none."""

    @abc.abstractmethod
    def unlabelled(self) -> Split:
        """Returns the same examples in the same orders; reads no labels, every label is -1."""

    @abc.abstractmethod
    def cached(self) -> Split:
        """Returns the same split; keeps encoded examples in memory after their first reading."""

    def balanced(self) -> Split:
        """Returns the same examples, with each class drawn equally often by `shuffled_records`.

        Raises:
            DatasetError: The examples can only be read in order, or some have no label.
        """
        raise DatasetError(
            "`balanced_sampling` must be False for data that are read in order, such as TensorFlow "
            "Datasets; use --class_weights=balanced to weight the losses instead, or a label "
            "subset (--label_fraction or --labels_per_class), which is kept in memory. Received: "
            f"balanced_sampling=True, for {self.name}"
        )

    @abc.abstractmethod
    def shard_positions(self, shard: tuple[int, int]) -> range:
        """Returns the positions in the split, from 0, of a shard's examples, in order."""

    def shard_size(self, shard: tuple[int, int]) -> int:
        """Returns the number of examples of shard (index, count). Shards differ by at most one."""
        return len(self.shard_positions(shard))

    @abc.abstractmethod
    def ordered_records(self, shard: tuple[int, int]) -> tf.data.Dataset:
        """Returns the records of a shard once, in order."""

    @abc.abstractmethod
    def shuffled_records(
        self, seed: int, shard: tuple[int, int], start: int, buffer_size: int
    ) -> tf.data.Dataset:
        """Returns the records of a shard without end, shuffled in each epoch, from element `start`
        on.

        A source that can only be read in order shuffles `buffer_size` records at a time; others
        shuffle the whole epoch.
        """

    @abc.abstractmethod
    def load(self, record, replace_unreadable: bool) -> dict[str, tf.Tensor]:
        """Decodes a record: `image` (H, W, C) uint8, `label`, `id`, and `readable` () bool.

        With `replace_unreadable`, the next readable image of the split replaces an unreadable one,
        so that every later example keeps its position. Without it, an unreadable image is black
        and `readable` false.
        """


class IndexedSplit(Split):
    """Examples that can be read in any order; a record is an index.

    An epoch is one order for all shards, which alternate: for any number of shards, their batches
    together hold the same examples, with the same crops, at every step.

    Args:
        name: As in `Split`.
        columns: The examples: `id` (N,) string; `label` (N,) int64 unless unlabelled; `image`
            (N, ...), the stored images.
        decode: Function from a stored image to (H, W, C) uint8.
        channels: C.
    """

    reads_by_id = True

    def __init__(
        self,
        name: str,
        columns: dict[str, tf.Tensor],
        decode: Callable[[tf.Tensor], tf.Tensor],
        channels: int = RGB,
    ):
        super().__init__(name, len(columns["id"]), "label" in columns, channels)
        self._columns = columns
        self._decode = decode
        self._balanced = False

    def labels(self):
        ids = np.array([name.decode() for name in self._columns["id"].numpy()], np.str_)
        return ids, np.array(self._columns["label"] if self.labelled else np.full(len(ids), -1))

    @property
    def num_labels(self):
        return int(np.sum(self._columns["label"].numpy() >= 0)) if self.labelled else 0

    def fingerprint(self):
        found = hashlib.sha256()
        for key in sorted(self._columns):
            values = self._columns[key].numpy()
            found.update(f"{key} {values.shape} ".encode())
            found.update(b"\0".join(values) if values.dtype == object else values.tobytes())
        return found.hexdigest()

    def _select(self, ids):
        own, _ = self.labels()
        indices = [index for index, name in enumerate(own.tolist()) if name in ids]
        columns = {
            key: tf.gather(column, tf.constant(indices, tf.int64))
            for key, column in self._columns.items()
        }
        name = f"a subset of {self.name}"
        return self._with(name=name, num_examples=len(indices), _columns=columns)

    def unlabelled(self):
        columns = {key: column for key, column in self._columns.items() if key != "label"}
        return self._with(labelled=False, _columns=columns, _balanced=False)

    def cached(self):
        return self

    def balanced(self):
        if self.num_labels < self.num_examples:
            raise DatasetError(
                "`balanced_sampling` must be False if images have no label. Received: "
                f"balanced_sampling=True, for {self.name}"
            )
        return self._with(_balanced=True)

    def shard_positions(self, shard):
        index, count = shard
        return range(index, self.num_examples, count)

    def ordered_records(self, shard):
        index, count = shard
        return tf.data.Dataset.range(index, self.num_examples, count)

    def shuffled_records(self, seed, shard, start, buffer_size):
        del buffer_size
        index, count = shard
        first_epoch, offset = divmod(start * count + index, self.num_examples)

        @as_is
        def epoch_records(epoch):
            order = self._order(epoch, seed_for(seed, ORDER, epoch))
            begin = tf.where(epoch == first_epoch, tf.constant(offset, tf.int64), 0)
            return tf.data.Dataset.from_tensor_slices(order[begin:])

        return tf.data.Dataset.counter(first_epoch).flat_map(epoch_records).shard(count, 0)

    def _order(self, epoch, draw) -> tf.Tensor:
        """Returns (N,) int64, the indices that an epoch draws from its own seed (2,)."""
        if self._balanced:
            return balanced_order(self._columns["label"], epoch, draw)
        indices = tf.range(self.num_examples, dtype=tf.int64)
        return tf.random.experimental.stateless_shuffle(indices, draw)

    def load(self, record, replace_unreadable):
        del replace_unreadable  # every image in memory is readable
        example = self._stored(record)
        return {**example, "image": self._decode(example["image"]), "readable": True}

    def _stored(self, index: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"label": np.int64(-1), **{key: x[index] for key, x in self._columns.items()}}
