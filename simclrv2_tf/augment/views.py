"""Views: flip, color and blur of crops, and their options."""

from __future__ import annotations

import dataclasses

from etils import epy

from simclrv2_tf.augment.arguments import on_batch
from simclrv2_tf.augment.blur import randomly_blurred
from simclrv2_tf.augment.color import color
from simclrv2_tf.augment.draws import apply_where, make_draws
from simclrv2_tf.options import Group, option

with epy.lazy_imports():
    import tensorflow as tf


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewOptions(Group, title="Augmentation"):
    """How the views of training are made."""

    color_jitter_strength: float = option(
        1.0,
        "Strength of the color jitter. At 2.5 hue takes the whole circle.",
        minimum=0,
        maximum=2.5,
    )
    color_jitter_version: str = option(
        "v2", "v2 multiplies brightness, v1 (SimCLR's) adds to it.", choices=("v2", "v1")
    )
    use_blur: bool = option(True, "Gaussian blur in pretraining, for half of the views.")
    min_crop_area: float = option(
        0.08, "Smallest part of an image's area that a random crop takes.", positive=True, maximum=1
    )
    labelled_views: str = option(
        "crop_flip",
        "Views in all stages after pretraining. crop_flip: a random crop and flip. pretrain: color "
        "jitter and blur too, as in pretraining.",
        choices=("crop_flip", "pretrain"),
    )


def random_flip(images, seed=None, shard: tuple[int, int] = (0, 1)) -> tf.Tensor:
    """Mirrors each image of `images`, an image or a batch, left to right with probability 0.5."""
    draws = make_draws(seed, shard)
    return on_batch(images, "images", lambda batch: flip(batch, draws))


def flip(batch, draws):
    """`random_flip` of a float32 batch (B, H, W, 3)."""
    drawn = draw_flip(batch, draws)
    return apply_where(lambda some, _: tf.reverse(some, axis=[2]), batch, drawn)


def draw_flip(batch, draws):
    """Draws which images of a batch are mirrored, (B,) bool."""
    return draws.uniform(batch) < 0.5


def pretraining_view(
    images,
    seed=None,
    *,
    strength: float = 1.0,
    version: str = "v2",
    blur: bool = True,
    shard: tuple[int, int] = (0, 1),
) -> tf.Tensor:
    """Makes a view for pretraining out of images that were cropped already.

    In the reference's order: flip, color jitter, grayscale, blur, clip to [0, 1]. See
    `random_flip`, `random_color` and `random_blur`.

    Args:
        images: An image or a batch, such as the results of `random_crop`.
        seed: None, or two integers.
        strength, version: As for `random_color`; a strength of 0 leaves colors alone.
        blur: Whether to blur half of the images; the reference does for ImageNet and not for CIFAR.
        shard: (index, count) of this part of a batch; needs a seed above one part.
    """
    flip_draws, color_draws, blur_draws = make_draws(seed, shard).split(3)

    def view(batch):
        batch = flip(batch, flip_draws)
        batch = color(batch, strength, version, color_draws)
        if blur:
            batch = randomly_blurred(batch, None, 0.5, blur_draws)
        return tf.clip_by_value(batch, 0.0, 1.0)

    return on_batch(images, "images", view)
