"""Networks to export, as after some training."""

import keras
import numpy as np

from simclrv2_tf import heads, resnet

CLASSES = ("ant", "bee", "cat", "dog")
IMAGES = np.random.default_rng(0).random((3, 16, 16, 3), dtype=np.float32)


def networks(depth=10, blocks=(1, 1), **options):
    keras.utils.set_random_seed(1)
    encoder = resnet.resnet(depth, 1 / 16, image_size=16, blocks=blocks, **options)
    head = heads.projection_head(encoder.output_shape[-1], 3, 8)
    classifier = heads.classifier(encoder.output_shape[-1], 4)
    for model in (encoder, head):  # as after some training: no branch is switched off
        for variable in model.weights:
            if variable.path.endswith("gamma"):
                variable.assign(keras.random.uniform(variable.shape, 0.5, 1.0, seed=2))
    return encoder, head, classifier


def assert_same(got, expected, name=""):
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max(), err_msg=name)
