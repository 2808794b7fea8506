"""The batches that stages consume: pretraining, training and evaluation pipelines.

Each is one host's pipeline: `batch_size` counts that host's examples, and `shard` = (index, count)
says which of `count` hosts it is.

The training pipelines are functions of their arguments alone. The order of the data is drawn anew
in each epoch from `seed` and the number of the epoch, and each crop and color from `seed` and the
position of the example or batch. So a pipeline begun at `start_step=k` gives what one begun at 0
gives after k batches, on any machine, and skips the k batches before anything is decoded. Epochs
follow each other without a gap: a batch may hold the end of one and the beginning of the next.
"""

from __future__ import annotations

import functools

import tensorflow as tf

from simclrv2_tf import augment
from simclrv2_tf.datasets.sources import DatasetError
from simclrv2_tf.datasets.splits import CORES, CROP, VIEW, Split, as_is, fixed_parallelism, seed_for

_DEFAULT_VIEWS = augment.ViewOptions()
_MOST_BATCHES_AT_ONCE = 16  # of views, each of a whole batch's size in memory


def pretraining_batches(
    split: Split,
    *,
    batch_size: int,
    image_size: int,
    seed: int,
    start_step: int = 0,
    views: augment.ViewOptions = _DEFAULT_VIEWS,
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
        views: Crops, colors and blur.
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
        split, 2, batch_size, image_size, seed, start_step, views, cache, shard
    )
    make_view = _view_maker(image_size, views, shard)

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
    views: augment.ViewOptions = _DEFAULT_VIEWS,
    cache: bool = False,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """One crop of each image, flipped or not: the augmentation of every stage after pretraining.

    Args and errors as in `pretraining_batches`. Colors and blur are left alone unless
    `views.labelled_views` is "pretrain", which makes an image one view as there: for supervised
    baselines.

    Returns:
        An infinite data set of (image, label): float32 (B, S, S, 3) in [0, 1], int64 (B,).
    """
    batches = _cropped_batches(
        split, 1, batch_size, image_size, seed, start_step, views, cache, shard
    )
    # `pretraining_view` draws its flips from a part of the seed, so flips alone would be others
    # than those of the runs made before there was color here.
    make_view = functools.partial(augment.random_flip, shard=shard)
    if views.labelled_views == "pretrain" and (views.color_jitter_strength > 0 or views.use_blur):
        make_view = _view_maker(image_size, views, shard)

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

    @as_is
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
        .map(prepare, num_parallel_calls=CORES, deterministic=True)
        .concatenate(tf.data.Dataset.from_tensors(padding).repeat(missing))
        .batch(batch_size, drop_remainder=True)
        .apply(tf.data.experimental.assert_cardinality(num_batches))
        .prefetch(tf.data.AUTOTUNE)
        .with_options(fixed_parallelism())
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
    split, num_crops, batch_size, image_size, seed, start_step, views, cache, shard
) -> tf.data.Dataset:
    """Infinite (crops, label): `num_crops` random crops of each example, (B, S, S, 3) each."""
    _check(batch_size=batch_size, image_size=image_size, shard=shard, start_step=start_step)
    index, count = shard
    check_batch_size(split, batch_size * count)
    split = split.cached() if cache else split
    buffer_size = batch_size * (50 if image_size <= augment.SMALL_IMAGE else 10)  # the reference's

    @as_is
    def crop(turn, record):
        example = split.load(record, replace_unreadable=True)
        draws = tf.random.split(seed_for(seed, CROP, turn * count + index), num_crops)
        crops = tuple(
            augment.random_crop(example["image"], image_size, (views.min_crop_area, 1.0), seed=draw)
            for draw in tf.unstack(draws)
        )
        return crops, example["label"]

    start = start_step * batch_size
    return (
        split.shuffled_records(seed, shard, start, buffer_size)
        .enumerate(start)
        .map(crop, num_parallel_calls=CORES, deterministic=True)
        .batch(batch_size, drop_remainder=True)
    )


def _view_maker(image_size: int, views: augment.ViewOptions, shard: tuple[int, int]):
    """`augment.pretraining_view` with these options, of a batch of crops and a (2,) seed."""
    return _traced_view(
        image_size, views.color_jitter_strength, views.color_jitter_version, views.use_blur, shard
    )


@functools.lru_cache(maxsize=16)
def _traced_view(image_size: int, strength: float, version: str, blur: bool, shard):
    """Traced once for the views of all pipelines of a process.

    Tracing takes a second or more, and a run has several pipelines.
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
            as_is(lambda step, batch: function(seed_for(seed, VIEW, step), *batch)),
            num_parallel_calls=min(CORES, _MOST_BATCHES_AT_ONCE),
            deterministic=True,
        )
        .apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
        .prefetch(tf.data.AUTOTUNE)
        .with_options(fixed_parallelism())
    )


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
