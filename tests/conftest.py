"""Fixtures that several test files use."""

import numpy as np
import pytest


def pytest_collection_modifyitems(items):
    """Begins with what one worker must do in one go, so that no worker is left with it alone."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """A folder of 2 classes, 12 training and 5 test images each, of differing sizes."""
    import tensorflow as tf

    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 5)):
        for label, name in enumerate(("dark", "light")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 100, (20 + i, 24, 3)) + 120 * label
                png = tf.io.encode_png(pixels.astype(np.uint8))
                (folder / f"{i}.png").write_bytes(png.numpy())
    return root
