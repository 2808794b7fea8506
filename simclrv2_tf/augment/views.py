"""Views: flip, rotate, jitter and blur crops; the options of these operations."""

from __future__ import annotations

import dataclasses
from typing import Any

from etils import epy

from simclrv2_tf.augment.arguments import on_batch
from simclrv2_tf.augment.blur import randomly_blurred
from simclrv2_tf.augment.color import GRAYSCALE_PROBABILITY, color
from simclrv2_tf.augment.draws import make_draws
from simclrv2_tf.augment.orientation import FLIPS, orientation
from simclrv2_tf.channels import RGB
from simclrv2_tf.options import Group, option

with epy.lazy_imports():
    import tensorflow as tf


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewOptions(Group, title="Augmentation"):
    """Options of the views of training."""

    color_jitter_strength: float = option(
        1.0,
        "Strength of the color jitter. At 2.5 hue covers the whole circle. In images that are not "
        "RGB, only brightness and contrast are jittered.",
        minimum=0,
        maximum=2.5,
    )
    color_jitter_version: str = option(
        "v2", "v2 multiplies brightness, v1 (SimCLR's) adds to it.", choices=("v2", "v1")
    )
    grayscale_probability: float = option(
        GRAYSCALE_PROBABILITY,
        "Probability that a view loses its color after the jitter. It never does if "
        "`color_jitter_strength` is 0 or if images are not RGB.",
        minimum=0,
        maximum=1,
    )
    use_blur: bool = option(True, "Gaussian blur in pretraining, for half of the views.")
    min_crop_area: float = option(
        0.08, "Smallest part of an image's area that a random crop takes.", positive=True, maximum=1
    )
    flip: str = option(
        "horizontal",
        "Mirror crops with probability 0.5: horizontal (left to right), vertical, both (each "
        "independently) or none. Avoid a flip that changes what an image shows: use none for "
        "digits and text, and if left and right matter, as in anatomy; use both for images without "
        "an upright side, such as satellite and microscope images.",
        choices=FLIPS,
    )
    rotate: bool = option(
        False,
        "Rotate crops by 0, 90, 180 or 270 degrees, each with probability 1/4. Use it for images "
        "without an upright side.",
    )
    labelled_views: str = option(
        "crop_flip",
        "Views in all stages after pretraining. crop_flip: a random crop, with `flip` and "
        "`rotate`. pretrain: color jitter and blur too, as in pretraining.",
        choices=("crop_flip", "pretrain"),
    )

    def views_in_words(self, channels: int = RGB) -> str:
        """Describes in a line how views for pretraining are made from images of `channels`."""
        jitter = "no color jitter"
        if (strength := self.color_jitter_strength) and channels != RGB:
            jitter = f"brightness and contrast jitter {strength:g} ({self.color_jitter_version})"
        elif strength:
            jitter = f"color jitter {strength:g} ({self.color_jitter_version}), "
            jitter += f"grayscale {self.grayscale_probability:g}"
        flips = {"none": "no flip", "both": "flip horizontal and vertical"}
        parts = (
            f"crop area {self.min_crop_area:g} to 1",
            flips.get(self.flip, f"flip {self.flip}"),
            "rotation by multiples of 90 degrees" if self.rotate else "no rotation",
            jitter,
            "blur of half of the views" if self.use_blur else "no blur",
        )
        return ", ".join(parts)

    @property
    def of_view(self) -> dict[str, Any]:
        """The arguments of `pretraining_view`, by name."""
        return {
            "strength": self.color_jitter_strength,
            "version": self.color_jitter_version,
            "blur": self.use_blur,
            "grayscale_probability": self.grayscale_probability,
            "flip": self.flip,
            "rotate": self.rotate,
        }


def pretraining_view(
    images,
    seed=None,
    *,
    strength: float = 1.0,
    version: str = "v2",
    blur: bool = True,
    grayscale_probability: float = GRAYSCALE_PROBABILITY,
    flip: str = "horizontal",
    rotate: bool = False,
    shard: tuple[int, int] = (0, 1),
) -> tf.Tensor:
    """Makes a view for pretraining from images that are already cropped.

    In the reference's order: flip, color jitter, grayscale, blur, clip to [0, 1]. Rotation, which
    the reference does not have, follows the flip. See `random_orientation`, `random_color` and
    `random_blur`.

    Args:
        images: An image or a batch, such as the results of `random_crop`.
        seed: None, or two integers.
        strength, version, grayscale_probability: As for `random_color`; a strength of 0 leaves
            colors as they are.
        blur: Whether to blur half of the images; the reference does for ImageNet and not for CIFAR.
        flip, rotate: As for `random_orientation`.
        shard: (index, count) of this part of a batch; needs a seed above one part.
    """
    flip_draws, color_draws, blur_draws = make_draws(seed, shard).split(3)

    def view(batch):
        batch = orientation(batch, flip, rotate, flip_draws)
        batch = color(batch, strength, version, grayscale_probability, color_draws)
        if blur:
            batch = randomly_blurred(batch, None, 0.5, blur_draws)
        return tf.clip_by_value(batch, 0.0, 1.0)

    return on_batch(images, "images", view)
