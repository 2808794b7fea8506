"""Image operations against tensorflow-addons, an independent implementation, in its own process."""

import ast
import importlib.util
import sys

import numpy as np
import pytest

from helpers.paths import ROOT
from helpers.processes import python
from simclrv2_tf import augment

# Shape of the batch, kernel size, the images' sigmas.
BLURS = {
    "narrow": ((2, 20, 20, 3), 3, (0.1, 2.0)),
    "odd": ((2, 17, 29, 3), 5, (0.6, 1.3)),
    "even": ((2, 29, 17, 3), 4, (0.6, 1.3)),
    "a wide sigma": ((2, 24, 18, 3), 9, (1.9, 10.0)),
    "a view for ImageNet": ((1, 224, 224, 3), 22, (2.0,)),
    "larger than the image": ((2, 5, 7, 3), 21, (0.9, 4.0)),
    "one column": ((2, 30, 1, 3), 6, (0.7, 2.0)),
    "one row": ((2, 1, 30, 3), 7, (0.7, 2.0)),
    "one pixel": ((3, 1, 1, 3), 3, (0.1, 1.0, 2.0)),
    "no window": ((2, 8, 9, 3), 0, (0.5, 1.0)),
    "a window of 1": ((2, 8, 9, 3), 1, (0.5, 1.0)),
    "a sigma each": ((6, 12, 10, 3), 7, (0.1, 0.4, 0.8, 1.2, 1.6, 2.0)),
}


def images_of(name):
    images = np.random.default_rng(list(BLURS).index(name)).uniform(size=BLURS[name][0])
    return images.astype(np.float32)


def gray_images():
    rows = np.random.default_rng(99).integers(0, 256, (2, 19, 14, 1), np.uint8)
    return np.repeat(rows, 3, axis=-1)


@pytest.fixture(scope="module")
def addons(tmp_path_factory):
    """What tensorflow-addons makes of all the images, by name."""
    if importlib.util.find_spec("tensorflow_addons") is None:
        if sys.version_info >= (3, 12):
            pytest.skip("tensorflow-addons has no wheel for Python 3.12 or later")
        pytest.skip("tensorflow-addons is not installed: see the extra `addons`")
    arrays = {}
    for name, (_, kernel_size, sigmas) in BLURS.items():
        # It has no rule for even windows, so it gets the width that we document.
        window = kernel_size + 1 if kernel_size % 2 == 0 else kernel_size
        arrays |= {f"{name}/images": images_of(name), f"{name}/window": window}
        arrays[f"{name}/sigmas"] = sigmas
    arrays |= {"gray/images": gray_images() / 255, "gray/window": 5, "gray/sigmas": (0.8, 1.7)}

    folder = tmp_path_factory.mktemp("addons")
    np.savez(folder / "inputs.npz", **arrays)
    python("-m", "helpers.addons_oracle", folder / "inputs.npz", folder / "outputs.npz")
    with np.load(folder / "outputs.npz") as file:
        return dict(file)


@pytest.mark.parametrize("name", BLURS)
def test_blur_equals_tensorflow_addons(addons, name):
    _, kernel_size, sigmas = BLURS[name]
    images = images_of(name)
    blurred = augment.gaussian_blur(images, kernel_size, sigmas)
    np.testing.assert_allclose(blurred, addons[name], rtol=0, atol=1e-6)
    one = augment.gaussian_blur(images[0], kernel_size, sigmas[0])
    np.testing.assert_allclose(one, addons[name][0], rtol=0, atol=1e-6)


def test_blur_of_gray_bytes_equals_tensorflow_addons_and_stays_gray(addons):
    blurred = augment.gaussian_blur(gray_images(), 5, (0.8, 1.7)).numpy()
    np.testing.assert_allclose(blurred, addons["gray"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(blurred, blurred[..., :1].repeat(3, axis=-1), rtol=0, atol=1e-6)


def test_the_package_imports_neither_addons_nor_keras_2():
    sources = sorted((ROOT / "simclrv2_tf").rglob("*.py"))
    assert sources
    imported = set()
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.split(".")[0])
    assert "tensorflow" in imported
    assert not imported & {"tensorflow_addons", "tf_keras"}
