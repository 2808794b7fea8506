"""Selected examples of a data set, in a fixed or a shuffled order.

The order of shuffled records is drawn anew in each epoch from `seed` and the number of the epoch
alone. Epochs follow each other without a gap.
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

# Functions mapped here do not branch in Python on a tensor. To convert them, with `augment`, would
# cost seconds at each start.
as_is = tf.autograph.experimental.do_not_convert

# What a seed is used for: each use has draws of its own.
ORDER, CROP, VIEW = range(3)

CORES = os.cpu_count() or 1


def fixed_parallelism() -> tf.data.Options:
    """Options of every pipeline here, so that it ends at once and holds what `buffers` counts.

    Autotuning is off, as its thread can delay a pipeline's end by up to a minute. `map` and `batch`
    are not fused: the fused operation at times keeps several batches more than it promises.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.map_and_batch_fusion = False
    return options


def seed_for(seed: int, use: int, position) -> tf.Tensor:
    """A (2,) stateless seed for one use at one position; `position` is () int64."""
    return tf.random.fold_in(tf.constant([seed, use], tf.int64), position)


class Split(abc.ABC):
    """Selected examples of a data set, in a fixed order; made by `ImageDataset.split`.

    A *record*, which is small to shuffle, is an index or a still encoded example.

    Attributes:
        name: The specification that selected the split, for messages.
        num_examples: Number of examples, over all shards.
        labelled: Whether examples have labels; else every label is -1.
        channels: C of the images.
        reads_by_id: Whether any examples can be read by themselves, so that a subset is no copy.
    """

    reads_by_id = False

    def __init__(self, name: str, num_examples: int, labelled: bool, channels: int = RGB):
        self.name = name
        self.num_examples = num_examples
        self.labelled = labelled
        self.channels = channels
        self._made: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Calls `make`, or returns what it made for `key` before.

        For pipelines, which take as long to build as a stage of few steps to train: the stages of a
        run that read the same examples in the same way share one. Iterators begin anew.
        """
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def examples(self) -> tf.data.Dataset:
        """Every readable example once, in order: `image` (H, W, C) uint8, `label` and `id`.

        `label` is () int64, -1 where unlabelled; `id` is () string, the same for the same data.
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
        """The examples with these ids, in the order of this split.

        An unreadable image is replaced from within the subset, so that no other label comes in. A
        TensorFlow Datasets split is read at once, in one pass over all of it, and the subset stays
        in memory still encoded.

        Args:
            ids: As `labels` gives them, in any order; one that occurs twice counts once.

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
                f"{len(missing)} of them not there, the first {str(missing[0])!r}"
            )
        return subset

    def _with(self, **attributes) -> Split:
        other = copy.copy(self)
        vars(other).update(_made={}, **attributes)
        return other

    @property
    def num_labels(self) -> int | None:
        """Number of examples with a label; None where counting takes reading the data."""
        return None if self.labelled else 0

    @abc.abstractmethod
    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """The ids (N,) str and labels (N,) int64 of all examples, in order; no image is decoded.

        Images that turn out to be unreadable are among them.
        """

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 that tells whether the examples are the same, of ids, labels and sizes; no image
        is decoded.

        It depends neither on the machine nor on where the data lie.
        """

    @abc.abstractmethod
    def _select(self, ids: Set[str]) -> Split:
        """The examples with one of these ids; there may be none."""

    @abc.abstractmethod
    def unlabelled(self) -> Split:
        """The same examples in the same orders, every label -1: none is read."""

    @abc.abstractmethod
    def cached(self) -> Split:
        """The same split, its encoded examples kept in memory from their first reading on."""

    def balanced(self) -> Split:
        """The same examples, of which `shuffled_records` draws each class equally often.

        Raises:
            DatasetError: They can only be read in order, or some have no label.
        """
        raise DatasetError(
            "`balanced_sampling` must be False for data that are read in order, such as those of "
            "TensorFlow Datasets; --class_weights=balanced weighs their losses instead, and a "
            "label subset (--label_fraction or --labels_per_class), which is kept in memory, can "
            f"be balanced. Received: balanced_sampling=True, for {self.name}"
        )

    @abc.abstractmethod
    def shard_positions(self, shard: tuple[int, int]) -> range:
        """The places in the split, from 0, of the examples of a shard, in its order."""

    def shard_size(self, shard: tuple[int, int]) -> int:
        """Number of examples of shard (index, count). Shards are disjoint, as equal as can be."""
        return len(self.shard_positions(shard))

    @abc.abstractmethod
    def ordered_records(self, shard: tuple[int, int]) -> tf.data.Dataset:
        """The records of a shard once, in order."""

    @abc.abstractmethod
    def shuffled_records(
        self, seed: int, shard: tuple[int, int], start: int, buffer_size: int
    ) -> tf.data.Dataset:
        """The records of a shard without end, shuffled in each epoch, from element `start` on.

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

    An epoch is one order for all shards, and the shards take turns: with any number of them,
    the batches of all together hold the same examples, with the same crops, at every step.

    Args:
        name: As of `Split`.
        columns: The examples: `id` (N,) string; `label` (N,) int64 unless unlabelled; `image`
            (N, ...), the images as they are stored.
        decode: From a stored image to (H, W, C) uint8.
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
                "`balanced_sampling` must be False where images have no label. Received: "
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
        """(N,) int64, the indices that an epoch draws, by its own seed (2,)."""
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
