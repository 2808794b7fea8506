"""Data sets that TensorFlow Datasets has prepared on disk, read in order as streams."""

from __future__ import annotations

import copy
import difflib
import os

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core import naming, read_only_builder
from tensorflow_datasets.core.utils import file_utils

from simclrv2_tf.datasets.images import decode_rgb
from simclrv2_tf.datasets.sources import PACKAGED, SOURCES, DatasetError, ImageDataset, Range
from simclrv2_tf.datasets.splits import ORDER, IndexedSplit, MemoryReader, Split, as_is, seed_for

_OTHER_NAMES = ", ".join(SOURCES)


def open_dataset(name: str, data_dir: str | None, seed: int) -> ImageDataset:
    """Opens the prepared data of a TensorFlow Datasets builder; never asks a server."""
    del seed
    builder = _prepared_builder(name, data_dir)
    features = builder.info.features
    described = " ".join(repr(features).split())
    if not isinstance(features, tfds.features.FeaturesDict):
        raise DatasetError(f"`dataset` must have named features. Received: {name} with {described}")
    image_key = _feature_key(builder, tfds.features.Image, "image")
    label_key = _feature_key(builder, tfds.features.ClassLabel, "label")
    if image_key is None or np.issubdtype(features[image_key].np_dtype, np.floating):
        raise DatasetError(
            f"`dataset` must have one image feature of 8 or 16 bits. "
            f"Received: {name} with {described}"
        )
    if label_key is None:
        logging.warning("%s has no class label; its images are used as unlabelled.", name)
    elif not features[label_key].num_classes:
        raise DatasetError(
            f"The label feature of `dataset` must have a number of classes. "
            f"Received: {name} with {described}"
        )

    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    sizes = {split: size for split, size in sizes.items() if size}
    for split in sizes:
        for path in builder.info.splits[split].filepaths:
            if not tf.io.gfile.exists(os.fspath(path)):
                raise DatasetError(
                    f"The files of a prepared data set must all be there; {path} is missing, so "
                    f"prepare it again. Received: dataset={name!r}"
                )

    def select(spec: str, ranges: list[Range]) -> Split:
        return StreamedSplit(spec, ranges, builder, image_key, label_key)

    class_names = features[label_key].names if label_key else ()
    return ImageDataset(name, class_names, sizes, select)


def _prepared_builder(name: str, data_dir: str | None):
    """The read-only builder of data prepared on disk.

    Only files are read: the builder's own class would ask a server about data it does not find,
    which hangs for minutes where there is no network.
    """
    data_dir = os.path.expanduser(data_dir) if data_dir else None
    received = f"Received: dataset={name!r}, data_dir={data_dir!r}"
    try:
        builder_name = naming.parse_builder_name_kwargs(name)[0].name
    except ValueError:
        raise DatasetError(
            f"`dataset` must be {_OTHER_NAMES}, or a TensorFlow Datasets name such as "
            f"cifar10, imagenet2012_subset/1pct or cifar10:3.0.2. {received}"
        ) from None
    try:
        return read_only_builder.builder_from_files(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        pass
    except (ValueError, OSError, tf.errors.OpError) as error:
        raise DatasetError(
            f"`dataset` must be readable by TensorFlow Datasets "
            f"({str(error).splitlines()[0]}). {received}"
        ) from error

    folders = [os.fspath(folder) for folder in file_utils.list_data_dirs(given_data_dir=data_dir)]
    on_disk = {
        entry.rstrip("/")
        for folder in folders
        if tf.io.gfile.isdir(folder)
        for entry in tf.io.gfile.listdir(folder)
    }
    known = set(tfds.list_builders(with_community_datasets=False))
    if builder_name in known or builder_name in on_disk:
        raise DatasetError(
            f"`dataset` must be prepared on disk, and {name} (this config and version) was not "
            f"found in {' or '.join(folders)}; prepare it where there is network: "
            f"tfds build {name} --data_dir={folders[0]}. {received}"
        )
    close = difflib.get_close_matches(builder_name, sorted(known | on_disk | {PACKAGED}))
    raise DatasetError(
        f"`dataset` must be {_OTHER_NAMES}, or a TensorFlow Datasets name; {name} is none"
        f"{' (did you mean ' + ' or '.join(close) + '?)' if close else ''}. {received}"
    )


def _feature_key(builder, kind: type, preferred: str) -> str | None:
    """The feature of a kind that is supervised by, has the usual name, or is the only one."""
    features = builder.info.features
    keys = [key for key, feature in features.items() if isinstance(feature, kind)]
    candidates = [key for key in (builder.info.supervised_keys or ()) if key in keys]
    candidates += [preferred] if preferred in keys else []
    candidates += keys if len(keys) == 1 else []
    return candidates[0] if candidates else None


class StreamedSplit(Split):
    """Examples prepared by TensorFlow Datasets; a record is a still encoded example.

    A shard is a contiguous part of the split, so that a host reads no more than its own. In each
    epoch the files are read in a new order, and the records pass through a shuffle buffer.
    """

    def __init__(self, name, ranges, builder, image_key, label_key, in_memory=False):
        super().__init__(name, sum(end - begin for _, begin, end in ranges), label_key is not None)
        self._ranges = ranges
        self._builder = builder
        self._image_key = image_key
        self._label_key = label_key
        self._in_memory = in_memory

    def labels(self):
        ids, labels = [], []
        for batch in self._read((0, 1), with_images=False).batch(1024).as_numpy_iterator():
            ids += [name.decode() for name in batch["id"]]
            labels.append(batch["label"])
        return np.array(ids), np.concatenate(labels)

    def _select(self, ids):
        wanted = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(tf.constant(list(ids)), tf.fill([len(ids)], True)),
            default_value=False,
        )
        logging.info("Reading %s once, for a subset of %d examples.", self.name, len(ids))
        records = self._read((0, 1)).filter(as_is(lambda record: wanted.lookup(record["id"])))
        columns = {"id": [], "image": [], "label": []}
        for record in records.as_numpy_iterator():
            for key, column in columns.items():
                column.append(record[key])
        reader = MemoryReader(
            tf.constant(columns["id"], tf.string),
            tf.constant(columns["image"], tf.string),
            tf.constant(columns["label"], tf.int64) if self.labelled else None,
            decode_rgb,
        )
        name = f"a subset of {self.name}"
        return IndexedSplit(name, len(columns["id"]), self.labelled, reader)

    def unlabelled(self) -> Split:
        return self._with(_label_key=None, labelled=False)

    def cached(self) -> Split:
        return self._with(_in_memory=True)

    def _with(self, **changes) -> Split:
        other = copy.copy(self)
        vars(other).update(changes)
        return other

    def shard_size(self, shard):
        begin, end = self._bounds(shard)
        return end - begin

    def _bounds(self, shard):
        index, count = shard
        return self.num_examples * index // count, self.num_examples * (index + 1) // count

    def _read(self, shard, file_seed=None, with_images=True) -> tf.data.Dataset:
        """The records of a shard: `id`, `label` and, unless they are left out, `image`."""
        first, last = self._bounds(shard)
        parts, passed = [], 0
        for split, begin, end in self._ranges:
            part_begin = begin + max(0, first - passed)
            part_end = min(end, begin + last - passed)
            if part_begin < part_end:
                parts.append(f"{split}[{part_begin}:{part_end}]")
            passed += end - begin
        # What is not asked for is not parsed. Something must be: without labels, the images.
        keys = {"label": self._label_key} if self.labelled else {}
        encoded = {}
        if with_images or not keys:
            keys["image"] = self._image_key
            encoded[self._image_key] = tfds.decode.SkipDecoding()
        records = self._builder.as_dataset(
            split="+".join(parts),
            shuffle_files=file_seed is not None,
            decoders=tfds.decode.PartialDecoding(
                dict.fromkeys(keys.values(), True), decoders=encoded
            ),
            read_config=tfds.ReadConfig(
                add_tfds_id=True,
                shuffle_seed=file_seed,
                shuffle_reshuffle_each_iteration=False,
                enable_ordering_guard=False,  # shuffling a set that is stored in order is meant
                try_autocache=False,
                skip_prefetch=True,
            ),
        )
        unlabelled = tf.constant(-1, tf.int64)
        return records.map(
            lambda record: {
                "label": unlabelled,
                **{name: record[key] for name, key in keys.items()},
                "id": record["tfds_id"],
            }
        )

    def ordered_records(self, shard):
        if not self.shard_size(shard):
            return self._read((0, 1)).take(0)
        records = self._read(shard)
        return records.cache() if self._in_memory else records

    def shuffled_records(self, seed, shard, start, buffer_size):
        size = self.shard_size(shard)
        first_epoch, offset = divmod(start, size)
        in_memory = self.ordered_records(shard) if self._in_memory else None

        @as_is
        def epoch_records(epoch):
            # `shuffle` mixes the global seed into its own. Inside this function's graph that is
            # this one, so that the order does not depend on what the caller has set.
            tf.random.set_seed(1)
            draw = tf.random.split(seed_for(seed, ORDER, epoch), 2)
            if in_memory is None:
                records, window = self._read(shard, file_seed=draw[0, 0]), min(buffer_size, size)
            else:
                records, window = in_memory, size  # the buffer only holds references
            return records.shuffle(window, seed=draw[1, 0], reshuffle_each_iteration=False)

        return tf.data.Dataset.counter(first_epoch).flat_map(epoch_records).skip(offset)

    def load(self, record, replace_unreadable):
        del replace_unreadable  # TensorFlow Datasets has read each image when preparing the data
        return {
            "image": decode_rgb(record["image"]),
            "label": record["label"],
            "id": record["id"],
            "readable": tf.constant(True),
        }
