"""The batches of stages: pretraining, training and evaluation pipelines of one host.

The training pipelines depend only on their arguments. The order of the data is drawn from
`seed` and the number of the epoch, and each crop and color from `seed` and the position of the
example or batch. So a pipeline that starts at `start_step=k` gives the same batches as one from 0
after k batches, on any machine, and skips the k batches without decoding them. A batch may span two
epochs.
"""

import functools
import math
from collections.abc import Sequence

import tensorflow as tf

from simclrv2_tf import augment
from simclrv2_tf.augment.compiled import compiled_view
from simclrv2_tf.augment.draws import checked_shard
from simclrv2_tf.datasets.sources import DatasetError
from simclrv2_tf.datasets.splits import CORES, CROP, VIEW, Split, as_is, fixed_parallelism, seed_for
from simclrv2_tf.options import check_sizes

_DEFAULT_VIEWS = augment.ViewOptions()
_BUFFER_BYTES = 2**31  # limit for all images in a pipeline
_MOST_BATCHES_AT_ONCE, _MOST_PREFETCHED = 16, 4


def pretraining_batches(
    split: Split,
    *,
    batch_size: int,
    image_size: int,
    seed: int,
    start_step: int = 0,
    views: augment.ViewOptions = _DEFAULT_VIEWS,
    antialias: bool = False,
    cache: bool = False,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Makes two augmented views of each image (SimCLR, section 2.1 and appendix A).

    Args:
        split: The examples, whose images have C channels.
        batch_size: B, examples per batch on this host.
        image_size: S, height and width of the views in pixels.
        seed: Seed of the order and of every random draw.
        start_step: Number of batches to skip at the beginning.
        views: Crops, flips, rotations, colors and blur.
        antialias: Whether crops with a side above 2 S are resized with antialiasing.
        cache: Whether to keep the encoded examples in memory.
        shard: (index, count): this host's index among `count` hosts.

    Returns:
        An infinite data set of ((view1, view2), label): float32 (B, S, S, C) in [0, 1], and int64
        (B,), -1 if unlabelled. All shapes are static.

    Raises:
        DatasetError: `batch_size` times the number of hosts exceeds the number of examples.
        ValueError: Another argument is out of range.
    """

    def make_views(draw, crops, label):
        pairs = zip(crops, _seeds_of(draw, 2), strict=True)
        return tuple(_view(crop, draw, views, shard) for crop, draw in pairs), label

    return _batches_of_crops(
        split,
        2,
        make_views,
        batch_size,
        image_size,
        seed,
        start_step,
        views,
        antialias,
        cache,
        shard,
    )


def training_batches(
    split: Split,
    *,
    batch_size: int,
    image_size: int,
    seed: int,
    start_step: int = 0,
    views: augment.ViewOptions = _DEFAULT_VIEWS,
    antialias: bool = False,
    cache: bool = False,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Makes one random crop and flip of each image, as every stage after pretraining uses.

    Args and errors as for `pretraining_batches`. With `views.labelled_views` "pretrain", each image
    becomes a view as in pretraining, with color and blur, for supervised baselines.

    Returns:
        An infinite data set of (image, label): float32 (B, S, S, C) in [0, 1], int64 (B,).
    """

    def make_views(draw, crops, label):
        return _labelled_view(*crops, draw, views, shard), label

    return _batches_of_crops(
        split,
        1,
        make_views,
        batch_size,
        image_size,
        seed,
        start_step,
        views,
        antialias,
        cache,
        shard,
    )


def unlabelled_batches(
    split: Split,
    *,
    strong: Sequence[bool],
    batch_size: int,
    image_size: int,
    seed: int,
    start_step: int = 0,
    views: augment.ViewOptions = _DEFAULT_VIEWS,
    antialias: bool = False,
    cache: bool = False,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Makes views of images without reading labels, for training with unlabelled images alongside.

    Args and errors as for `pretraining_batches`, and:
        strong: For each view, whether it is strong: `augment.strong_view` of a weak view. Weak
            views are made as in `training_batches`.

    Returns:
        An infinite data set of tuples with one batch per view, float32 (B, S, S, C) in [0, 1].
    """

    def make_views(draw, crops, label):
        del label
        made = []
        for crop, own, is_strong in zip(crops, _seeds_of(draw, len(strong)), strong, strict=True):
            weak_seed, strong_seed = _seeds_of(own, 2)
            view = _labelled_view(crop, weak_seed, views, shard)
            made.append(augment.strong_view(view, strong_seed, shard) if is_strong else view)
        return tuple(made)

    return _batches_of_crops(
        split,
        len(strong),
        make_views,
        batch_size,
        image_size,
        seed,
        start_step,
        views,
        antialias,
        cache,
        shard,
    )


def first_views(
    split: Split,
    *,
    count: int,
    image_size: int,
    seed: int,
    views: augment.ViewOptions = _DEFAULT_VIEWS,
    antialias: bool = False,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the views of the first `count` images of `pretraining_batches`, and the images.

    For figures. Does not compile, which takes more than a second per batch size. Args as for
    `pretraining_batches`.

    Returns:
        The two views, to within rounding, and the images cropped as for evaluation, each
        (`count`, S, S, C) float32 in [0, 1].
    """
    load_crops = _loading_crops(split, 2, image_size, seed, views, antialias, (0, 1))

    @as_is
    def prepare(turn, record):
        example = split.load(record, replace_unreadable=True)
        original = augment.evaluation_image(example["image"], image_size, antialias)
        return load_crops(turn, record)[0], original

    records = _shuffled(split, count, image_size, seed, (0, 1), 0).enumerate()
    crops, originals = next(iter(records.map(prepare).batch(count)))
    draws = _seeds_of(seed_for(seed, VIEW, tf.constant(0, tf.int64)), 2)
    view1, view2 = (
        augment.pretraining_view(crop, draw, **views.of_view)
        for crop, draw in zip(crops, draws, strict=True)
    )
    return view1, view2, originals


def evaluation_batches(
    split: Split,
    *,
    batch_size: int,
    image_size: int,
    antialias: bool = False,
    cache: bool = False,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Makes an evaluation crop of each image, once.

    Black images of weight 0 pad the last batches, so that all batches have the same shape and
    all shards the same number of them. An unreadable image has weight 0 as well. Args as for
    `pretraining_batches`; a batch may be larger than the split.

    Returns:
        A finite data set, whose length is known, of (image, label, weight): float32 (B, S, S, C) in
        [0, 1], int64 (B,) (-1: unlabelled), and float32 (B,), 1 for a real image.

    Raises:
        ValueError: An argument is out of range.
    """
    _check(batch_size=batch_size, image_size=image_size, shard=shard)
    split = split.cached() if cache else split
    num_batches = math.ceil(math.ceil(split.num_examples / shard[1]) / batch_size)

    @as_is
    def prepare(record):
        example = split.load(record, replace_unreadable=False)
        image = augment.evaluation_image(example["image"], image_size, antialias)
        return image, example["label"], tf.cast(example["readable"], tf.float32)

    # A padding label is valid: the loss of an invalid label may be NaN, whatever its weight.
    label = tf.constant(0 if split.labelled else -1, tf.int64)
    padding = (tf.zeros((image_size, image_size, split.channels)), label, tf.constant(0.0))
    _, prefetched = buffers(_image_bytes(batch_size, image_size, split.channels))
    missing = num_batches * batch_size - split.shard_size(shard)
    return (
        split.ordered_records(shard)
        .map(prepare, num_parallel_calls=CORES, deterministic=True)
        .concatenate(tf.data.Dataset.from_tensors(padding).repeat(missing))
        .batch(batch_size, drop_remainder=True)
        .apply(tf.data.experimental.assert_cardinality(num_batches))
        .prefetch(prefetched)
        .with_options(fixed_parallelism())
    )


def buffers(batch_bytes: int) -> tuple[int, int]:
    """Returns how many batches a pipeline makes in parallel, and how many finished ones it keeps.

    For each batch in progress, memory holds crops, views and an intermediate step. Together with
    the finished batches there are three more: the crops being gathered, their copy into a batch,
    and the consumer's batch. All take at most 2 GiB, or seven batches if these are larger, for any
    number of cores.

    Args:
        batch_bytes: Size of a batch's images in bytes.
    """
    fit = _BUFFER_BYTES // batch_bytes
    prefetched = min(_MOST_PREFETCHED, max(1, fit // 8))
    at_once = max(1, (fit - prefetched - 3) // 3)
    return min(CORES, _MOST_BATCHES_AT_ONCE, at_once), prefetched


def _image_bytes(count: int, image_size: int, channels: int) -> int:
    return count * image_size * image_size * channels * 4


def check_batch_size(split: Split, batch_size: int, name: str = "batch_size") -> None:
    """Checks that a batch of all hosts, called `name` in the error, is no larger than the split.

    Raises:
        DatasetError: The batch is larger.
    """
    if batch_size > split.num_examples:
        raise DatasetError(
            f"`{name}` must be at most the number of examples, {split.num_examples} in "
            f"{split.name}. Received: {name}={batch_size}"
        )


def _batches_of_crops(
    split,
    num_crops,
    function,
    batch_size,
    image_size,
    seed,
    start_step,
    views,
    antialias,
    cache,
    shard,
) -> tf.data.Dataset:
    """Returns an infinite data set of `function(draw, crops, label)`, one draw per batch.

    `crops` are `num_crops` random crops (B, S, S, C) of each example.
    """
    _check(batch_size=batch_size, image_size=image_size, shard=shard, start_step=start_step)
    check_batch_size(split, batch_size * shard[1])
    split = split.cached() if cache else split
    crop = _loading_crops(split, num_crops, image_size, seed, views, antialias, shard)
    start = start_step * batch_size
    at_once, prefetched = buffers(_image_bytes(num_crops * batch_size, image_size, split.channels))
    return (
        _shuffled(split, batch_size, image_size, seed, shard, start)
        .enumerate(start)
        .map(crop, num_parallel_calls=CORES, deterministic=True)
        .batch(batch_size, drop_remainder=True)
        .enumerate(start_step)
        .map(
            as_is(lambda step, batch: function(seed_for(seed, VIEW, step), *batch)),
            num_parallel_calls=at_once,
            deterministic=True,
        )
        .apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
        .prefetch(prefetched)
        .with_options(fixed_parallelism())
    )


def _loading_crops(split, num_crops, image_size, seed, views, antialias, shard):
    """Returns a function from a position and its record to `num_crops` crops (S, S, C) and a label.

    Positions count within the shard.
    """
    index, count = shard
    area = (views.min_crop_area, 1.0)

    @as_is
    def crop(turn, record):
        example = split.load(record, replace_unreadable=True)
        draws = tf.random.split(seed_for(seed, CROP, turn * count + index), num_crops)
        crops = (
            augment.random_crop(example["image"], image_size, area, seed=draw, antialias=antialias)
            for draw in tf.unstack(draws)
        )
        shape = (image_size, image_size, split.channels)
        return tuple(tf.ensure_shape(crop, shape) for crop in crops), example["label"]

    return crop


def _seeds_of(draw, count: int) -> list[tf.Tensor]:
    """Returns the seeds (2,) of `count` views from the seed of their batch."""
    return tf.unstack(tf.random.split(draw, count))


def _shuffled(split, batch_size, image_size, seed, shard, start) -> tf.data.Dataset:
    """Returns the records of training, from element `start` on."""
    batches = 50 if image_size <= augment.SMALL_IMAGE else 10  # the reference's
    return split.shuffled_records(seed, shard, start, batch_size * batches)


def _labelled_view(crops, seed, views: augment.ViewOptions, shard) -> tf.Tensor:
    """Makes the views (B, S, S, C) of all stages after pretraining."""
    colored = views.color_jitter_strength > 0 or views.use_blur
    if views.labelled_views == "pretrain" and colored:
        return _view(crops, seed, views, shard)
    # Not a view without color and blur, whose flips would use another part of the seed.
    return augment.random_orientation(
        crops, seed, flip=views.flip, rotate=views.rotate, shard=shard
    )


def _view(crops, seed, views: augment.ViewOptions, shard) -> tf.Tensor:
    """Returns `augment.pretraining_view` for crops (B, S, S, C), these options and a (2,) seed."""
    traced = _traced_view(crops.shape[1], shard, channels=crops.shape[3], **views.of_view)
    return tf.ensure_shape(traced(crops, seed), crops.shape)


@functools.lru_cache(maxsize=16)
def _traced_view(image_size: int, shard, **of_view):
    """Made once for all pipelines of a process, because tracing and compiling take seconds."""
    return compiled_view(image_size, shard=shard, **of_view)


def _check(*, batch_size: int, image_size: int, shard: tuple[int, int], start_step: int = 0):
    check_sizes(batch_size=batch_size, image_size=image_size)
    if start_step < 0:
        raise ValueError(f"`start_step` must be at least 0. Received: {start_step=}")
    checked_shard(shard)
