"""Exported weights in torchvision's network, where the extra `bench` is installed."""

import importlib.util

import numpy as np
import pytest
from etils import epath

from helpers.drawn import classifier_of
from helpers.processes import python
from simclrv2_tf.export import safetensors_file
from simclrv2_tf.resnet import resnet


@pytest.mark.skipif(
    not (importlib.util.find_spec("torch") and importlib.util.find_spec("torchvision")),
    reason="the extra bench is not installed",
)
@pytest.mark.parametrize("layers", [0, 2])
def test_torchvision_computes_the_same(layers, tmp_path):
    model = classifier_of(resnet(50, 1.0, stem="imagenet"), layers)
    images = np.random.default_rng(1).uniform(size=(2, 64, 96, 3)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    source = epath.Path(tmp_path / "image_classifier.keras")
    weights = epath.Path(tmp_path / "image_classifier.torchvision.safetensors")
    model.save(source)
    safetensors_file.write_torchvision(source, weights, 64)
    given = weights, tmp_path / "images.npy", layers, tmp_path / "outputs.npy"
    python("-m", "helpers.torchvision_oracle", *given)
    expected = model.predict(images, verbose=0)
    found = np.load(tmp_path / "outputs.npy")
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
