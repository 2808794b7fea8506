"""Random numbers for the images of a batch, independent of how hosts divide the batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from etils import epy

with epy.lazy_imports():
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Draws:
    """Random numbers of one seed for one part of a batch."""

    seed: tf.Tensor  # (2,) int64
    index: int
    count: int

    def split(self, num: int) -> list[Draws]:
        """Returns `num` independent draws."""
        seeds = tf.unstack(tf.random.split(self.seed, num))
        return [dataclasses.replace(self, seed=seed) for seed in seeds]

    def folded(self, number: int) -> Draws:
        """Returns draws that are independent of these draws and of any other number's."""
        number = tf.constant(number, self.seed.dtype)
        return dataclasses.replace(self, seed=tf.random.fold_in(self.seed, number))

    def uniform(self, batch, *shape: int, low: float = 0.0, high: float = 1.0) -> tf.Tensor:
        """(B, *shape) for a batch of B images: U(low, high)."""
        # A few numbers for each image of the whole batch: cheaper than a seed for each image.
        rows = tf.shape(batch)[0] * self.count
        numbers = tf.random.stateless_uniform((rows, *shape), self.seed, low, high)
        return numbers[self.index :: self.count]


def apply_where(function: Callable, batch, drawn):
    """Replaces each row that is `drawn`, (B,) bool, with its result of `function(rows, indices)`.

    `function` receives only the drawn rows, possibly none.
    """
    rows = tf.where(drawn)  # (n, 1)
    some = function(tf.gather(batch, rows[:, 0]), rows[:, 0])
    return tf.tensor_scatter_nd_update(batch, rows, some)


def checked_seed(seed):
    """Returns `seed` as two integers, (2,); draws new ones if `seed` is None."""
    if seed is None:
        # The only stateful operation here: it draws new values at each execution.
        return tf.random.uniform((2,), tf.int32.min, tf.int32.max, dtype=tf.int32)
    tensor = tf.convert_to_tensor(seed)
    if not (tensor.dtype.is_integer and tensor.shape.is_compatible_with((2,))):
        raise ValueError(f"`seed` must be None or two integers. Received: seed={seed}")
    # One type, so that equal numbers give equal draws whatever their type.
    return tf.cast(tensor, tf.int64)


def checked_shard(shard: tuple[int, int]) -> tuple[int, int]:
    """Returns `shard` = (index, count), 0 <= index < count."""
    index, count = shard
    if not 0 <= index < count:
        raise ValueError(f"`shard` must be (index, count), 0 <= index < count. Received: {shard=}")
    return index, count


def make_draws(seed, shard=(0, 1)):
    """Returns the draws of part `shard` = (index, count) of a batch."""
    index, count = checked_shard(shard)
    if seed is None and count > 1:
        raise ValueError(
            f"`seed` must be given for a part of a batch, because all parts share it. "
            f"Received: seed=None, {shard=}"
        )
    return Draws(checked_seed(seed), index, count)
