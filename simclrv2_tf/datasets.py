"""Image data sets as `tf.data`: the packaged set, TensorFlow Datasets, and folders of images.

`open_dataset` finds a data set and `ImageDataset.split` selects examples of it. From such a
`Split`, `pretraining_batches`, `training_batches` and `evaluation_batches` make the batches a stage
consumes. Each is one host's pipeline: `batch_size` counts that host's examples, and `shard` =
(index, count) says which of `count` hosts it is.

The training pipelines are functions of their arguments alone. The order of the data is drawn anew
in each epoch from `seed` and the number of the epoch, and each crop and color from `seed` and the
position of the example or batch. So a pipeline begun at `start_step=k` gives what one begun at 0
gives after k batches, on any machine, and skips the k batches before anything is decoded. Epochs
follow each other without a gap: a batch may hold the end of one and the beginning of the next.
"""

from __future__ import annotations

import abc
import difflib
import functools
import importlib.resources
import lzma
import os
from collections.abc import Callable, Iterable, Sequence, Set
from types import SimpleNamespace
from typing import Protocol

import numpy as np
import tensorflow as tf
from absl import logging

from simclrv2_tf import augment, image_folder
from simclrv2_tf.image_folder import DatasetError

__all__ = [
    "DatasetError",
    "ImageDataset",
    "PACKAGED",
    "Split",
    "check_batch_size",
    "evaluation_batches",
    "open_dataset",
    "pretraining_batches",
    "training_batches",
]

PACKAGED = "fashion_mnist_small"

_FOLDER_PREFIX = "folder:"
_FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

# Nothing mapped here branches in Python on a tensor, and converting it all, with `augment`, costs
# seconds at each start.
_as_is = tf.autograph.experimental.do_not_convert

# What a seed is used for: each use has draws of its own.
_ORDER, _CROP, _VIEW = range(3)

_CORES = os.cpu_count() or 1
_MOST_BATCHES_AT_ONCE = 16  # of views, each of a whole batch's size in memory

_Range = tuple[str, int, int]  # split name, first example, end


# --- Data sets --------------------------------------------------------------------------------


class ImageDataset:
    """A data set of images, made by `open_dataset`.

    Attributes:
      name: The name it was opened by.
      class_names: One name per label; empty for unlabelled images.
      splits: Split name -> number of examples.
      default_eval_split: `validation`, `val` or `test`, the first that there is (the test images of
        many published sets have no labels); None where nothing is held out.
    """

    def __init__(
        self,
        name: str,
        class_names: Sequence[str],
        splits: dict[str, int],
        select: Callable[[str, list[_Range]], Split],
        skipped: dict[str, str] | None = None,
    ):
        self.name = name
        self.class_names = tuple(class_names)
        self.splits = dict(splits)
        self.default_eval_split = next(
            (split for split in image_folder.HELD_OUT_SPLITS if split in splits), None
        )
        self._select = select
        self._skipped = {} if skipped is None else skipped

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 for unlabelled images."""
        return len(self.class_names)

    @property
    def num_skipped(self) -> int:
        """Number of unreadable images found so far, when opening and when reading."""
        return len(self._skipped)

    def split(self, spec: str) -> Split:
        """Selects examples in the slicing language of TensorFlow Datasets.

        Args:
          spec: For instance `train`, `train[:80%]`, `train[80%:]`, `train[100:200]`, `train+test`.

        Raises:
          DatasetError: When `spec` cannot be read, names a split that is not there, or selects
            nothing.
        """
        import tensorflow_datasets as tfds

        sizes = {
            name: SimpleNamespace(num_examples=size, shard_lengths=[size])
            for name, size in self.splits.items()
        }
        try:
            instructions = tfds.core.ReadInstruction.from_spec(spec).to_absolute(sizes)
        except (ValueError, NotImplementedError) as error:
            raise DatasetError(
                f"A split of {self.name} must be made of {', '.join(self.splits)}, such as "
                f"train, train[:80%] or train+test ({str(error).splitlines()[-1]}). "
                f"Received: split={spec!r}"
            ) from None
        ranges = []
        for instruction in instructions:
            begin = instruction.from_ or 0
            end = self.splits[instruction.splitname] if instruction.to is None else instruction.to
            if begin < end:
                ranges.append((str(instruction.splitname), begin, end))
        if not ranges:
            raise DatasetError(
                f"A split of {self.name} must select at least one example; there are "
                f"{', '.join(f'{size} in {name}' for name, size in self.splits.items())}. "
                f"Received: split={spec!r}"
            )
        return self._select(spec, ranges)


def open_dataset(name: str, data_dir: str | None = None, seed: int = 0) -> ImageDataset:
    """Opens a data set by name. Never touches the network (unless `data_dir` or PATH is remote).

    Args:
      name: One of
        `fashion_mnist_small`: the packaged set, 10,000 + 2,000 gray images of 28 x 28, 10 classes;
        `folder:PATH`: JPEG and PNG files, see `image_folder.scan`;
        else the name of a TensorFlow Datasets builder, also `name/config` and `name:1.0.0`, whose
        data is prepared on disk; its code need not be there.
      data_dir: Where TensorFlow Datasets keeps its data; None means its own default.
      seed: Decides which images of a folder that has no held-out split are held out.

    Raises:
      DatasetError: When there is no such data set, it is not prepared, or it has no images.
    """
    if name == PACKAGED:
        return _open_packaged()
    if name.startswith(_FOLDER_PREFIX):
        return _open_folder(name, seed)
    return _open_tfds(name, data_dir)


def open_images(path: str) -> Split:
    """The images below a folder, at any depth, or of one file, without labels; sorted by path.

    Their ids, which `labels` gives, are the paths below the folder.

    Raises:
      DatasetError: When there are none.
    """
    root, paths = image_folder.find_images(path)
    files = [image_folder.ImageFile(below, -1) for below in paths]
    folder = image_folder.ImageFolder(root, (), {"images": files}, {})
    return _IndexedSplit(path, len(files), False, image_folder.ImageReader(folder, files))


def _open_packaged() -> ImageDataset:
    resource = importlib.resources.files("simclrv2_tf") / "data" / "fashion_mnist_small.xz"
    arrays = {}
    with resource.open("rb") as compressed, lzma.open(compressed) as content:
        for split in ("train", "test"):
            images = np.lib.format.read_array(content)
            labels = np.lib.format.read_array(content)
            ids = np.array([f"{split}/{index}" for index in range(len(labels))])
            arrays[split] = (images, labels, ids)

    def select(spec: str, ranges: list[_Range]) -> Split:
        parts = [[array[begin:end] for array in arrays[split]] for split, begin, end in ranges]
        images, labels, ids = (np.concatenate(column) for column in zip(*parts, strict=True))
        reader = _MemoryReader(
            tf.constant(ids),
            tf.constant(images),  # (N, 28, 28)
            tf.constant(labels, tf.int64),
            lambda image: tf.repeat(image[:, :, None], 3, axis=2),
        )
        return _IndexedSplit(spec, len(labels), True, reader)

    sizes = {split: len(labels) for split, (_, labels, _) in arrays.items()}
    return ImageDataset(PACKAGED, _FASHION_MNIST_CLASSES, sizes, select)


def _open_folder(name: str, seed: int) -> ImageDataset:
    path = name.removeprefix(_FOLDER_PREFIX)
    if not path:
        raise DatasetError(f"`dataset` must be folder:PATH. Received: dataset={name!r}")
    folder = image_folder.scan(path, seed)

    def select(spec: str, ranges: list[_Range]) -> Split:
        files = [file for split, begin, end in ranges for file in folder.splits[split][begin:end]]
        reader = image_folder.ImageReader(folder, files)
        return _IndexedSplit(spec, len(files), bool(folder.class_names), reader)

    sizes = {split: len(files) for split, files in folder.splits.items()}
    return ImageDataset(name, folder.class_names, sizes, select, folder.skipped)


def _open_tfds(name: str, data_dir: str | None) -> ImageDataset:
    import tensorflow_datasets as tfds

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

    def select(spec: str, ranges: list[_Range]) -> Split:
        return _StreamedSplit(spec, ranges, builder, image_key, label_key)

    class_names = features[label_key].names if label_key else ()
    return ImageDataset(name, class_names, sizes, select)


def _prepared_builder(name: str, data_dir: str | None):
    """The read-only builder of data prepared on disk.

    Only files are read: the builder's own class would ask a server about data it does not find,
    which hangs for minutes where there is no network.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import naming, read_only_builder
    from tensorflow_datasets.core.utils import file_utils

    data_dir = os.path.expanduser(data_dir) if data_dir else None
    received = f"Received: dataset={name!r}, data_dir={data_dir!r}"
    try:
        builder_name = naming.parse_builder_name_kwargs(name)[0].name
    except ValueError:
        raise DatasetError(
            f"`dataset` must be {PACKAGED}, folder:PATH, or a TensorFlow Datasets name such as "
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
        f"`dataset` must be {PACKAGED}, folder:PATH, or a TensorFlow Datasets name; {name} is none"
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


# --- Splits -----------------------------------------------------------------------------------


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
                _as_is(lambda record: self.load(record, replace_unreadable=False)),
                num_parallel_calls=_CORES,
            )
            .filter(lambda example: example["readable"])
            .map(lambda example: {key: example[key] for key in ("image", "label", "id")})
            .with_options(_fixed_parallelism())
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


class _Reader(Protocol):
    """Examples by index, in memory or on disk."""

    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """As `Split.labels`."""

    def load(self, index: tf.Tensor, replace_unreadable: bool) -> dict[str, tf.Tensor]:
        """As `Split.load`, for a () int64 index."""

    def select(self, indices: Sequence[int]) -> _Reader:
        """A reader of these examples and no others."""

    def unlabelled(self) -> _Reader:
        """A reader of the same examples that does not hold their labels."""

    def cached(self) -> _Reader:
        """A reader that keeps what it reads in memory."""


class _MemoryReader:
    """Reads examples that are in memory.

    Args:
      ids: (N,) string.
      images: (N, ...), the images as they are stored.
      labels: (N,) int64, or None: unlabelled.
      decode: Makes one stored image (H, W, 3) uint8.
    """

    def __init__(self, ids, images, labels, decode):
        self._ids = ids
        self._images = images
        self._labels = labels
        self._decode = decode

    def labels(self):
        ids = np.array([name.decode() for name in self._ids.numpy()], np.str_)
        if self._labels is None:
            return ids, np.full(len(ids), -1, np.int64)
        return ids, self._labels.numpy()

    def load(self, index, replace_unreadable):
        del replace_unreadable  # none is
        unlabelled = tf.constant(-1, tf.int64)
        return {
            "image": self._decode(self._images[index]),
            "label": unlabelled if self._labels is None else self._labels[index],
            "id": self._ids[index],
            "readable": tf.constant(True),
        }

    def select(self, indices):
        indices = tf.constant(indices, tf.int64)
        return _MemoryReader(
            tf.gather(self._ids, indices),
            tf.gather(self._images, indices),
            None if self._labels is None else tf.gather(self._labels, indices),
            self._decode,
        )

    def unlabelled(self):
        return _MemoryReader(self._ids, self._images, None, self._decode)

    def cached(self):
        return self


class _IndexedSplit(Split):
    """Examples that can be read in any order; a record is an index.

    An epoch is one permutation for all shards, and the shards take turns: with any number of them,
    the batches of all together hold the same examples, with the same crops, at every step.
    """

    def __init__(self, name: str, num_examples: int, labelled: bool, reader: _Reader):
        super().__init__(name, num_examples, labelled)
        self._reader = reader

    def labels(self):
        return self._reader.labels()

    def _select(self, ids):
        own, _ = self.labels()
        indices = [index for index, name in enumerate(own.tolist()) if name in ids]
        reader = self._reader.select(indices)
        return _IndexedSplit(f"a subset of {self.name}", len(indices), self.labelled, reader)

    def unlabelled(self) -> Split:
        return _IndexedSplit(self.name, self.num_examples, False, self._reader.unlabelled())

    def cached(self) -> Split:
        return _IndexedSplit(self.name, self.num_examples, self.labelled, self._reader.cached())

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

        @_as_is
        def epoch_records(epoch):
            order = tf.random.experimental.stateless_shuffle(
                tf.range(self.num_examples, dtype=tf.int64), _draw(seed, _ORDER, epoch)
            )
            begin = tf.where(epoch == first_epoch, tf.constant(offset, tf.int64), 0)
            return tf.data.Dataset.from_tensor_slices(order[begin:])

        return tf.data.Dataset.counter(first_epoch).flat_map(epoch_records).shard(count, 0)

    def load(self, record, replace_unreadable):
        return self._reader.load(record, replace_unreadable)


class _StreamedSplit(Split):
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
        records = self._read((0, 1)).filter(_as_is(lambda record: wanted.lookup(record["id"])))
        columns = {"id": [], "image": [], "label": []}
        for record in records.as_numpy_iterator():
            for key, column in columns.items():
                column.append(record[key])
        reader = _MemoryReader(
            tf.constant(columns["id"], tf.string),
            tf.constant(columns["image"], tf.string),
            tf.constant(columns["label"], tf.int64) if self.labelled else None,
            image_folder.decode_rgb,
        )
        name = f"a subset of {self.name}"
        return _IndexedSplit(name, len(columns["id"]), self.labelled, reader)

    def unlabelled(self) -> Split:
        return _StreamedSplit(
            self.name, self._ranges, self._builder, self._image_key, None, self._in_memory
        )

    def cached(self) -> Split:
        return _StreamedSplit(
            self.name, self._ranges, self._builder, self._image_key, self._label_key, True
        )

    def shard_size(self, shard):
        begin, end = self._bounds(shard)
        return end - begin

    def _bounds(self, shard):
        index, count = shard
        return self.num_examples * index // count, self.num_examples * (index + 1) // count

    def _read(self, shard, file_seed=None, with_images=True) -> tf.data.Dataset:
        """The records of a shard: `id`, `label` and, unless they are left out, `image`."""
        import tensorflow_datasets as tfds

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

        @_as_is
        def epoch_records(epoch):
            # `shuffle` mixes the global seed into its own. Inside this function's graph that is
            # this one, so that the order does not depend on what the caller has set.
            tf.random.set_seed(1)
            draw = tf.random.split(_draw(seed, _ORDER, epoch), 2)
            if in_memory is None:
                records, window = self._read(shard, file_seed=draw[0, 0]), min(buffer_size, size)
            else:
                records, window = in_memory, size  # the buffer only holds references
            return records.shuffle(window, seed=draw[1, 0], reshuffle_each_iteration=False)

        return tf.data.Dataset.counter(first_epoch).flat_map(epoch_records).skip(offset)

    def load(self, record, replace_unreadable):
        del replace_unreadable  # TensorFlow Datasets has read each image when preparing the data
        return {
            "image": image_folder.decode_rgb(record["image"]),
            "label": record["label"],
            "id": record["id"],
            "readable": tf.constant(True),
        }


# --- Pipelines --------------------------------------------------------------------------------


def pretraining_batches(
    split: Split,
    *,
    batch_size: int,
    image_size: int,
    seed: int,
    start_step: int = 0,
    color_jitter_strength: float = 1.0,
    color_jitter_version: str = "v2",
    use_blur: bool = True,
    min_crop_area: float = 0.08,
    cache: bool = False,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Two augmented views of each image (SimCLR, section 2.1 and appendix A).

    Args:
      split: The examples.
      batch_size: B, examples a batch of this host.
      image_size: S, height and width of the views in pixels.
      seed: Of the order and of every random draw.
      start_step: Number of batches to leave out at the beginning.
      color_jitter_strength, color_jitter_version, use_blur: See `augment.pretraining_view`.
      min_crop_area: Smallest area of a crop, a share of the image in (0, 1].
      cache: Whether to keep the encoded examples in memory.
      shard: (index, count) of this host.

    Returns:
      An infinite data set of ((view1, view2), label): float32 (B, S, S, 3) in [0, 1], and int64
      (B,), -1 where unlabelled. All shapes are static.

    Raises:
      DatasetError: When `batch_size` times the number of shards exceeds the number of examples.
      ValueError: When another argument is out of range.
    """
    batches = _cropped_batches(
        split, 2, batch_size, image_size, seed, start_step, min_crop_area, cache, shard
    )

    make_view = _view_maker(
        image_size, color_jitter_strength, color_jitter_version, use_blur, shard
    )

    def make_views(draw, crops, label):
        draws = tf.unstack(tf.random.split(draw, 2))
        return tuple(make_view(*pair) for pair in zip(crops, draws, strict=True)), label

    return _finish(batches, make_views, seed, start_step)


def training_batches(
    split: Split,
    *,
    batch_size: int,
    image_size: int,
    seed: int,
    start_step: int = 0,
    color_jitter_strength: float = 0.0,
    color_jitter_version: str = "v2",
    use_blur: bool = False,
    min_crop_area: float = 0.08,
    cache: bool = False,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """One crop of each image, flipped or not: the augmentation of every stage after pretraining.

    Args and errors as in `pretraining_batches`. With a `color_jitter_strength` above 0 or
    `use_blur`, an image becomes one view as there: for supervised baselines.

    Returns:
      An infinite data set of (image, label): float32 (B, S, S, 3) in [0, 1], int64 (B,).
    """
    batches = _cropped_batches(
        split, 1, batch_size, image_size, seed, start_step, min_crop_area, cache, shard
    )

    # `pretraining_view` draws its flips from a part of the seed, so flips alone would be others
    # than those of the runs made before there was color here.
    make_view = functools.partial(augment.random_flip, shard=shard)
    if color_jitter_strength > 0 or use_blur:
        make_view = _view_maker(
            image_size, color_jitter_strength, color_jitter_version, use_blur, shard
        )

    def make_views(draw, crops, label):
        (crop,) = crops
        return make_view(crop, draw), label

    return _finish(batches, make_views, seed, start_step)


def evaluation_batches(
    split: Split,
    *,
    batch_size: int,
    image_size: int,
    cache: bool = False,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Each image once, cropped as for evaluation.

    The last batches are filled up with black images of weight 0, so that all batches have the same
    shape and all shards the same number of them. An unreadable image has weight 0 as well.

    Args:
      split: The examples.
      batch_size: B, examples a batch of this host.
      image_size: S, height and width in pixels.
      cache: Whether to keep the encoded examples in memory.
      shard: (index, count) of this host.

    Returns:
      A finite data set, whose length is known, of (image, label, weight): float32 (B, S, S, 3) in
      [0, 1], int64 (B,) (-1: unlabelled), and float32 (B,), 1 for an image that counts.

    Raises:
      ValueError: When an argument is out of range.
    """
    _check(batch_size=batch_size, image_size=image_size, shard=shard)
    split = split.cached() if cache else split
    largest_shard = -(-split.num_examples // shard[1])
    num_batches = -(-largest_shard // batch_size)

    @_as_is
    def prepare(record):
        example = split.load(record, replace_unreadable=False)
        image = augment.evaluation_image(example["image"], image_size)
        return image, example["label"], tf.cast(example["readable"], tf.float32)

    # A padding label is a valid one: elsewhere a loss may be NaN, which no weight undoes.
    padding = (
        tf.zeros((image_size, image_size, 3)),
        tf.constant(0 if split.labelled else -1, tf.int64),
        tf.constant(0.0),
    )
    missing = num_batches * batch_size - split.shard_size(shard)
    return (
        split.ordered_records(shard)
        .map(prepare, num_parallel_calls=_CORES, deterministic=True)
        .concatenate(tf.data.Dataset.from_tensors(padding).repeat(missing))
        .batch(batch_size, drop_remainder=True)
        .apply(tf.data.experimental.assert_cardinality(num_batches))
        .prefetch(tf.data.AUTOTUNE)
        .with_options(_fixed_parallelism())
    )


def check_batch_size(split: Split, batch_size: int, name: str = "batch_size") -> None:
    """Checks that a batch of all hosts together is no larger than the split.

    Args:
      split: The examples to train on.
      batch_size: Examples a batch, over all hosts.
      name: What the error calls it.

    Raises:
      DatasetError: When it is larger.
    """
    if batch_size > split.num_examples:
        raise DatasetError(
            f"`{name}` must be at most the number of examples, {split.num_examples} in "
            f"{split.name}. Received: {name}={batch_size}"
        )


def _cropped_batches(
    split, num_crops, batch_size, image_size, seed, start_step, min_crop_area, cache, shard
) -> tf.data.Dataset:
    """Infinite (crops, label): `num_crops` random crops of each example, (B, S, S, 3) each."""
    _check(batch_size=batch_size, image_size=image_size, shard=shard, start_step=start_step)
    index, count = shard
    check_batch_size(split, batch_size * count)
    split = split.cached() if cache else split
    buffer_size = batch_size * (50 if image_size <= augment.SMALL_IMAGE else 10)  # the reference's

    @_as_is
    def crop(turn, record):
        example = split.load(record, replace_unreadable=True)
        draws = tf.random.split(_draw(seed, _CROP, turn * count + index), num_crops)
        crops = tuple(
            augment.random_crop(example["image"], image_size, (min_crop_area, 1.0), seed=draw)
            for draw in tf.unstack(draws)
        )
        return crops, example["label"]

    start = start_step * batch_size
    return (
        split.shuffled_records(seed, shard, start, buffer_size)
        .enumerate(start)
        .map(crop, num_parallel_calls=_CORES, deterministic=True)
        .batch(batch_size, drop_remainder=True)
    )


@functools.lru_cache(maxsize=16)
def _view_maker(image_size: int, strength: float, version: str, blur: bool, shard):
    """`augment.pretraining_view` with these options, of a batch of crops and a (2,) seed.

    Traced once for the views of all pipelines of a process: tracing takes a second or more, and a
    run has several pipelines.
    """
    shape = (None, image_size, image_size, 3)
    view = functools.partial(
        augment.pretraining_view, strength=strength, version=version, blur=blur, shard=shard
    )
    specs = [tf.TensorSpec(shape, tf.float32), tf.TensorSpec((2,), tf.int64)]
    traced = tf.function(view, specs, autograph=False)

    def make_view(crops, seed):
        crops = tf.ensure_shape(crops, shape)
        return tf.ensure_shape(traced(crops, seed), crops.shape)

    return make_view


def _finish(batches, function, seed, start_step) -> tf.data.Dataset:
    """Maps `function(draw, crops, label)` over the batches, each step with its own draw."""
    return (
        batches.enumerate(start_step)
        .map(
            _as_is(lambda step, batch: function(_draw(seed, _VIEW, step), *batch)),
            num_parallel_calls=min(_CORES, _MOST_BATCHES_AT_ONCE),
            deterministic=True,
        )
        .apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
        .prefetch(tf.data.AUTOTUNE)
        .with_options(_fixed_parallelism())
    )


def _fixed_parallelism() -> tf.data.Options:
    """Without tf.data's autotuning, whose thread can sleep through the end of its pipeline.

    It wakes for the cancellation before that is marked and then sleeps on, for up to as long as the
    pipeline has run and a minute at most, while whoever ends the pipeline waits for it.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return options


def _draw(seed: int, use: int, position) -> tf.Tensor:
    """A (2,) stateless seed for one use at one position; `position` is () int64."""
    return tf.random.fold_in(tf.constant([seed, use], tf.int64), position)


def _check(*, batch_size: int, image_size: int, shard: tuple[int, int], start_step: int = 0):
    for name, value, least in (
        ("batch_size", batch_size, 1),
        ("image_size", image_size, 1),
        ("start_step", start_step, 0),
    ):
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}. Received: {name}={value}")
    index, count = shard
    if not 0 <= index < count:
        raise ValueError(f"`shard` must be (index, count), 0 <= index < count. Received: {shard=}")
