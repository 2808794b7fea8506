"""Data sets prepared on disk by TensorFlow Datasets, read in order as streams."""

import difflib
import hashlib
import os

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core import naming, read_only_builder
from tensorflow_datasets.core.utils import file_utils

from simclrv2_tf.channels import COLORS, RGB, stored_in_words
from simclrv2_tf.datasets.images import Reading, black, decode, decode_or_black, reason
from simclrv2_tf.datasets.sources import (
    PACKAGED,
    SOURCES,
    DatasetError,
    ImageDataset,
    Range,
    ValueRange,
)
from simclrv2_tf.datasets.splits import ORDER, IndexedSplit, Split, as_is, seed_for

_OTHER_NAMES = ", ".join(SOURCES)


def open_dataset(
    name: str,
    data_dir: str | None,
    split_seed: int,
    value_range: ValueRange = None,
    channels: int = RGB,
) -> ImageDataset:
    """Opens the prepared data of a TensorFlow Datasets builder; never contacts a server."""
    del split_seed
    builder = _prepared_builder(name, data_dir)
    features = builder.info.features

    def wrong(rule):
        return DatasetError(f"{rule} Received: {name} with {' '.join(repr(features).split())}")

    if not isinstance(features, tfds.features.FeaturesDict):
        raise wrong("`dataset` must have named features.")
    image_key = _feature_key(builder, tfds.features.Image, "image")
    label_key = _feature_key(builder, tfds.features.ClassLabel, "label")
    if image_key is None or np.issubdtype(features[image_key].np_dtype, np.floating):
        raise wrong("`dataset` must have one image feature of 8 or 16 bits.")
    bands = features[image_key].shape[-1]
    if channels not in COLORS and bands != channels:
        raise DatasetError(
            f"`channels` must be 1, 3 or the images' own number. Received: "
            f"channels={channels}, for {name}, whose images have "
            f"{bands or 'no fixed number of'} channels"
        )
    if label_key is None:
        logging.warning("%s has no class label; using its images as unlabelled.", name)
    elif not features[label_key].num_classes:
        raise wrong("The label feature of `dataset` must have a number of classes.")

    infos = {split: info for split, info in builder.info.splits.items() if info.num_examples}
    for path in (path for info in infos.values() for path in info.filepaths):
        if not tf.io.gfile.exists(os.fspath(path)):
            raise DatasetError(
                f"The files of a prepared data set must be complete, but {path} is missing; "
                f"prepare it again. Received: dataset={name!r}"
            )

    def select(spec: str, ranges: list[Range]) -> Split:
        return StreamedSplit(
            spec,
            ranges,
            builder,
            image_key,
            label_key,
            skipped,
            Reading(value_range, oriented=False, channels=channels),
        )

    skipped: dict[str, str] = {}
    class_names = tuple(features[label_key].names) if label_key else ()
    sizes = {split: info.num_examples for split, info in infos.items()}
    bits = 8 * np.dtype(features[image_key].np_dtype).itemsize
    stored = f"{stored_in_words(bands, channels)} of {bits} bits" if bands else ""
    if channels in COLORS and bands not in (None, *COLORS):
        stored += f" ({bands} bands with --channels={bands})"
    return ImageDataset(name, class_names, sizes, select, skipped, stored=stored)


def _prepared_builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    """Returns a builder of data on disk; its own class would contact a server and hang offline."""
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
        reason = str(error).splitlines()[0]
        raise DatasetError(
            f"`dataset` must be readable by TensorFlow Datasets ({reason}). {received}"
        ) from error

    folders = [os.fspath(folder) for folder in file_utils.list_data_dirs(given_data_dir=data_dir)]
    listed = [tf.io.gfile.listdir(folder) for folder in folders if tf.io.gfile.isdir(folder)]
    on_disk = {entry.rstrip("/") for entries in listed for entry in entries}
    known = set(tfds.list_builders(with_community_datasets=False))
    if builder_name in known or builder_name in on_disk:
        raise DatasetError(
            f"`dataset` must be prepared on disk, but {name} (this config and version) was not "
            f"found in {' or '.join(folders)}; prepare it with network access: "
            f"tfds build {name} --data_dir={folders[0]}. {received}"
        )
    folders_here = [entry.name for entry in os.scandir() if entry.is_dir()]
    close = [f"folder:{folder}" for folder in difflib.get_close_matches(name, folders_here, n=1)]
    close += difflib.get_close_matches(builder_name, sorted(known | on_disk | {PACKAGED}))
    raise DatasetError(
        f"`dataset` must be {_OTHER_NAMES}, or a TensorFlow Datasets name; {name} is none of these"
        f"{' (did you mean ' + ' or '.join(close) + '?)' if close else ''}. {received}"
    )


def _feature_key(builder, kind: type, preferred: str) -> str | None:
    """Returns the supervised feature of a type, or the preferred one, or the only one."""
    features = builder.info.features
    keys = [key for key, feature in features.items() if isinstance(feature, kind)]
    candidates = [key for key in (builder.info.supervised_keys or ()) if key in keys]
    candidates += [preferred] if preferred in keys else []
    candidates += keys if len(keys) == 1 else []
    return candidates[0] if candidates else None


class StreamedSplit(Split):
    """Examples prepared by TensorFlow Datasets; a record is an encoded example.

    A shard is a contiguous part of the split, so that a host only reads its own part. Each epoch
    reads the files in a new order, and shuffles the records in a buffer.

    In training, the first readable example of the split replaces one with a damaged image: any
    other would require a second reading from an unknown position.

    Args:
        name: As in `Split`.
        ranges: The parts of the builder's splits.
        builder: The builder of the prepared data.
        image_key, label_key: Names of the features; `label_key` is None without labels.
        skipped: Damaged images by id, and the reasons; reading adds to them.
        reading: How stored samples become an image. TFDS and the reference ignore an EXIF
            orientation, and so should this reading.
    """

    def __init__(self, name, ranges, builder, image_key, label_key, skipped, reading):
        count = sum(end - begin for _, begin, end in ranges)
        super().__init__(name, count, label_key is not None, reading.channels)
        self._ranges = ranges
        self._builder = builder
        self._image_key = image_key
        self._label_key = label_key
        self._skipped = skipped
        self._reading = reading
        self._in_memory = False  # whether to keep encoded examples in memory
        self._first: dict | None = None  # the first readable example, read when needed

    def labels(self):
        ids, labels = [], []
        for batch in self._read((0, 1), with_images=False).batch(1024).as_numpy_iterator():
            ids += [name.decode() for name in batch["id"]]
            labels.append(batch["label"])
        return np.array(ids), np.concatenate(labels)

    def fingerprint(self):
        """As in `Split`, but from the builder's version and the number of records in each file.

        The records themselves, which nobody edits in place, are not read.
        """
        info = self._builder.info
        splits = {
            name: (info.splits[name].shard_lengths, info.splits[name].num_bytes)
            for name, _, _ in self._ranges
        }
        names = info.features[self._label_key].names if self._label_key else None
        held = (info.full_name, splits, self._ranges, self._image_key, self._label_key, names)
        return hashlib.sha256(repr(held).encode()).hexdigest()

    def _select(self, ids):
        wanted = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(tf.constant(list(ids)), tf.fill([len(ids)], True)),
            default_value=False,
        )
        logging.info("Reading %s once, for a subset of %d examples.", self.name, len(ids))
        records = self._read((0, 1)).filter(as_is(lambda record: wanted.lookup(record["id"])))
        types = {"id": tf.string, "image": tf.string}
        if self.labelled:
            types["label"] = tf.int64
        found = self._readable(list(records.as_numpy_iterator()))
        columns = {
            key: tf.constant([record[key] for record in found], dtype)
            for key, dtype in types.items()
        }
        return IndexedSplit(f"a subset of {self.name}", columns, self._decode, self.channels)

    def _readable(self, records: list[dict]) -> list[dict]:
        """Replaces records of damaged images with the next readable image and its label."""
        whole = [self._why_damaged(r["id"].decode(), r["image"]) is None for r in records]
        if not any(whole) and records:
            raise DatasetError(
                f"A split must hold at least one readable image. Received: {self.name}, but none "
                f"of {len(records)} can be read"
            )
        places = np.flatnonzero(whole)
        found = []
        for index, record in enumerate(records):
            later = places[np.searchsorted(places, index) % len(places)]
            found.append({**records[later], "id": record["id"]})
        return found

    def _decode(self, encoded: tf.Tensor) -> tf.Tensor:
        return decode(encoded, self._reading)

    def _why_damaged(self, name: str, encoded: bytes) -> str | None:
        """Returns why an image cannot be decoded, and logs it once; None if it can."""
        try:
            self._decode(tf.constant(encoded))
        except tf.errors.OpError as error:
            why = reason(error)
            if self._skipped.setdefault(name, why) is why:
                logging.warning("Skipping the damaged image %s of %s: %s", name, self.name, why)
            return why
        return None

    def unlabelled(self):
        return self._with(_label_key=None, labelled=False)

    def cached(self):
        return self._with(_in_memory=True)

    def shard_positions(self, shard):
        index, count = shard
        return range(self.num_examples * index // count, self.num_examples * (index + 1) // count)

    def _read(self, shard, file_seed=None, with_images=True) -> tf.data.Dataset:
        """Returns the records of a shard: `id`, `label` and, unless left out, `image`."""
        positions = self.shard_positions(shard)
        first, last = positions.start, positions.stop
        parts, passed = [], 0
        for split, begin, end in self._ranges:
            part = begin + max(0, first - passed), min(end, begin + last - passed)
            if part[0] < part[1]:
                parts.append(f"{split}[{part[0]}:{part[1]}]")
            passed += end - begin
        # Other features are not parsed. At least one must be: without labels, the images.
        keys = {"label": self._label_key} if self.labelled else {}
        if with_images or not keys:
            keys["image"] = self._image_key
        encoded = {self._image_key: tfds.decode.SkipDecoding()} if "image" in keys else {}
        records = self._builder.as_dataset(
            split="+".join(parts),
            shuffle_files=file_seed is not None,
            decoders=tfds.decode.PartialDecoding(dict.fromkeys(keys.values(), True), encoded),
            read_config=tfds.ReadConfig(
                add_tfds_id=True,
                shuffle_seed=file_seed,
                shuffle_reshuffle_each_iteration=False,
                enable_ordering_guard=False,  # also shuffle a set that is stored in order
                try_autocache=False,
                skip_prefetch=True,
            ),
        )
        return records.map(
            lambda record: {
                "label": np.int64(-1),
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
            # `shuffle` mixes the global seed into its own seed: fix it in this function's graph, so
            # that the caller's has no effect.
            tf.random.set_seed(1)
            draw = tf.random.split(seed_for(seed, ORDER, epoch), 2)
            if in_memory is None:
                records, window = self._read(shard, file_seed=draw[0, 0]), min(buffer_size, size)
            else:
                records, window = in_memory, size  # the buffer only holds references
            return records.shuffle(window, seed=draw[1, 0], reshuffle_each_iteration=False)

        return tf.data.Dataset.counter(first_epoch).flat_map(epoch_records).skip(offset)

    def load(self, record, replace_unreadable):
        """Same as `Split.load`; raises a `DatasetError` if no image of the split can be read."""
        image, readable = decode_or_black(lambda: record["image"], self._reading)

        def rescue():
            # Python only runs for damaged images, so it does not slow the others.
            encoded, label, readable = tf.py_function(
                lambda name, encoded: self._stand_in(name, encoded, replace_unreadable),
                [record["id"], record["image"]],
                [tf.string, tf.int64, tf.bool],
            )
            image = tf.cond(readable, lambda: self._decode(encoded), lambda: black(self.channels))
            return image, tf.where(readable, label, record["label"]), readable

        whole = (image, tf.cast(record["label"], tf.int64), readable)
        image, label, readable = tf.cond(readable, lambda: whole, rescue)
        label.set_shape(())
        readable.set_shape(())
        image = tf.ensure_shape(image, (None, None, self.channels))
        return {"id": record["id"], "label": label, "image": image, "readable": readable}

    def _stand_in(self, name, encoded, replace: bool) -> tuple[bytes, int, bool]:
        """Returns the first readable example, or (b"", -1, False); logs the damaged one."""
        self._why_damaged(name.numpy().decode(), encoded.numpy())
        if not replace:
            return b"", -1, False
        if self._first is None:
            records = self._read((0, 1)).as_numpy_iterator()
            found = (r for r in records if self._why_damaged(r["id"].decode(), r["image"]) is None)
            self._first = next(found, None)
        if self._first is None:
            raise DatasetError(
                f"A split must hold at least one readable image. Received: {self.name}, but none "
                f"of {self.num_examples} can be read"
            )
        return self._first["image"], int(self._first["label"]), True
