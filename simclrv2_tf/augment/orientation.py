"""Flips and rotations by multiples of 90 degrees."""

from __future__ import annotations

from typing import NamedTuple

from etils import epy

from simclrv2_tf.augment.arguments import on_batch
from simclrv2_tf.augment.draws import apply_where, make_draws

with epy.lazy_imports():
    import tensorflow as tf

FLIPS = ("horizontal", "vertical", "both", "none")


def random_flip(
    images, seed=None, shard: tuple[int, int] = (0, 1), flip: str = "horizontal"
) -> tf.Tensor:
    """Mirrors each image at random, by default left to right with probability 0.5.

    Args:
        images: An image or a batch.
        seed: None, or two integers.
        shard: (index, count) of this part of a batch; needs a seed above one part.
        flip: "horizontal" (left to right), "vertical" (top to bottom), "both", each independently
            with probability 0.5, or "none".
    """
    return random_orientation(images, seed, flip=flip, shard=shard)


def random_orientation(
    images,
    seed=None,
    *,
    flip: str = "horizontal",
    rotate: bool = False,
    shard: tuple[int, int] = (0, 1),
) -> tf.Tensor:
    """Mirrors each image at random, then rotates it by 0, 90, 180 or 270 degrees.

    Args:
        images: An image or a batch.
        seed: None, or two integers.
        flip: As for `random_flip`, with the same draws.
        rotate: Whether to rotate, by each of the four angles with probability 1/4. The images must
            be square.
        shard: (index, count) of this part of a batch; needs a seed above one part.
    """
    draws = make_draws(seed, shard)
    return on_batch(images, "images", lambda batch: orientation(batch, flip, rotate, draws))


def orientation(batch, flip, rotate, draws):
    """`random_orientation` of a float32 batch (B, H, W, C)."""
    drawn = draw_orientation(batch, flip, rotate, draws)
    if drawn.mirrored is not None:
        batch = apply_where(lambda some, _: tf.reverse(some, axis=[2]), batch, drawn.mirrored)
    if drawn.upside_down is not None:
        batch = apply_where(lambda some, _: tf.reverse(some, axis=[1]), batch, drawn.upside_down)
    if drawn.quarters is not None:
        for quarters in (1, 2, 3):
            batch = apply_where(
                lambda some, _, quarters=quarters: tf.image.rot90(some, quarters),
                batch,
                drawn.quarters == quarters,
            )
    return batch


class OrientationDraws(NamedTuple):
    """How each image of a batch is mirrored and rotated; None if no image is."""

    mirrored: tf.Tensor | None  # (B,) bool, left to right
    upside_down: tf.Tensor | None  # (B,) bool, top to bottom
    quarters: tf.Tensor | None  # (B,) int32, counterclockwise rotations by 90 degrees


def draw_orientation(batch, flip, rotate, draws) -> OrientationDraws:
    """Draws flips and rotations of a batch."""
    if flip not in FLIPS:
        raise ValueError(f"`flip` must be one of {', '.join(FLIPS)}. Received: flip={flip!r}")
    height, width = batch.shape[1:3]
    if rotate and height != width:
        raise ValueError(
            f"`images` must be square to be rotated. Received: images.shape={batch.shape}"
        )
    # The horizontal flip uses the seed itself, so its draws do not depend on the other options.
    return OrientationDraws(
        mirrored=draws.uniform(batch) < 0.5 if flip in ("horizontal", "both") else None,
        upside_down=draws.folded(1).uniform(batch) < 0.5 if flip in ("vertical", "both") else None,
        quarters=tf.cast(draws.folded(2).uniform(batch, high=4.0), tf.int32) if rotate else None,
    )
