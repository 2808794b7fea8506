"""Options of the views. For now: `simclrv2_tf/augment/views.py` is to declare them."""

import dataclasses

from simclrv2_tf import options
from simclrv2_tf.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewOptions(options.Group):
    """How an image becomes a view."""

    title = "Augmentation"

    color_jitter_strength: float = option(
        1.0,
        "Strength of the color jitter. At 2.5 hue takes the whole circle.",
        minimum=0,
        maximum=2.5,
    )
    color_jitter_version: str = option(
        "v2",
        "v2 multiplies brightness, v1 (SimCLR's) adds to it.",
        choices=("v2", "v1"),
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
