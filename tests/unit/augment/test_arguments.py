"""Errors of the image operations."""

import numpy as np
import pytest

from helpers.distributions import random_images
from simclrv2_tf import augment

IMAGE = random_images(10, 10, 3)


@pytest.mark.parametrize(
    "name, call",
    [
        ("size", lambda: augment.center_crop(IMAGE, 0)),
        ("size", lambda: augment.evaluation_image(IMAGE, -1)),
        ("size", lambda: augment.random_crop(IMAGE, 2.5)),
        ("proportion", lambda: augment.center_crop(IMAGE, 4, 1.5)),
        ("proportion", lambda: augment.center_crop(IMAGE, 4, float("nan"))),
        ("area_range", lambda: augment.random_crop(IMAGE, 4, (0.0, 1.0))),
        ("area_range", lambda: augment.random_crop(IMAGE, 4, (0.5, 0.2))),
        ("area_range", lambda: augment.random_crop(IMAGE, 4, (0.5, 1.2))),
        ("area_range", lambda: augment.random_crop(IMAGE, 4, (0.5,))),
        ("area_range", lambda: augment.random_crop(IMAGE, 4, (0.05, 0.09))),
        ("area_range", lambda: augment.random_crop(IMAGE, 4, (float("nan"), 1.0))),
        ("aspect_range", lambda: augment.random_crop(IMAGE, 4, aspect_range=(0.0, 1.0))),
        ("aspect_range", lambda: augment.random_crop(IMAGE, 4, aspect_range=(1, float("inf")))),
        ("strength", lambda: augment.random_color(IMAGE, -0.1)),
        ("strength", lambda: augment.random_color(IMAGE, float("nan"))),
        ("strength", lambda: augment.pretraining_view(IMAGE, strength=float("inf"))),
        ("version", lambda: augment.random_color(IMAGE, 1.0, "v3")),
        ("flip", lambda: augment.pretraining_view(IMAGE, flip="up")),
        *(
            (
                "grayscale_probability",
                lambda p=p: augment.pretraining_view(IMAGE, grayscale_probability=p),
            )
            for p in (-0.1, 1.1, float("nan"))
        ),
        ("version", lambda: augment.pretraining_view(IMAGE, strength=0.0, version="")),
        ("kernel_size", lambda: augment.gaussian_blur(IMAGE, -1, 1.0)),
        ("kernel_size", lambda: augment.random_blur(IMAGE, 1.5)),
        ("sigma", lambda: augment.gaussian_blur(IMAGE, 3, 0.0)),
        ("sigma", lambda: augment.gaussian_blur(IMAGE[None], 3, [1.0, 2.0])),
        ("sigma", lambda: augment.gaussian_blur(IMAGE, 3, [[1.0]])),
        ("probability", lambda: augment.random_blur(IMAGE, 3, 1.1)),
        ("seed", lambda: augment.random_flip(IMAGE, seed=3)),
        ("seed", lambda: augment.random_flip(IMAGE, seed=(1.0, 2.0))),
        ("image", lambda: augment.center_crop(IMAGE[None], 4)),
        ("image", lambda: augment.random_crop(IMAGE[..., :0], 4)),
        ("image", lambda: augment.random_color(IMAGE[0], 1.0)),
        ("images", lambda: augment.random_flip(IMAGE.astype(np.int32))),
    ],
)
def test_errors_name_the_argument(name, call):
    with pytest.raises(ValueError, match=f"^`{name}` must .*Received: {name}"):
        call()
