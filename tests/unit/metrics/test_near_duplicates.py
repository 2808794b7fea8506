"""Copies are found among similar images, and unrelated images are not."""

import io
import lzma

import numpy as np
import pytest
from PIL import Image

from helpers.paths import ROOT
from simclrv2_tf.metrics.near_duplicates import find


@pytest.fixture(scope="module")
def images():
    """Training and test images of the packaged set, (n, 28, 28) uint8."""
    packaged = ROOT / "simclrv2_tf" / "data" / "fashion_mnist_small.xz"
    with lzma.open(packaged) as content:
        train, _, test = (np.lib.format.read_array(content) for _ in range(3))
    return train[:3000], test[:300]


def small(images):
    """Thumbnails (n, 14, 14, 1): means of 2 x 2 pixels."""
    return images.reshape(len(images), 14, 2, 14, 2).mean((2, 4))[..., None]


def encoded(image, quality):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def test_unrelated_images_of_one_kind_are_not_reported(images):
    train, test = images
    assert find(small(test), small(train)) == []


CHANGES = {
    "the file itself": lambda image: image,
    "another quality": lambda image: encoded(image, 85),
    "darker and flatter": lambda image: (0.6 * image + 20).astype(np.uint8),
    "mirrored": lambda image: image[:, ::-1],
    "mirrored, another quality": lambda image: encoded(image[:, ::-1], 85),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_planted_copy_is_found(images, change):
    train, test = images
    copies = np.stack([CHANGES[change](image) for image in test[:20]])
    planted = np.concatenate([train, copies])
    found = find(small(test), small(planted))
    pairs = {(pair.query, pair.bank) for pair in found}
    assert pairs == {(row, len(train) + row) for row in range(20)}
    assert {pair.mirrored for pair in found} == {change.startswith("mirrored")}
    differences = [pair.difference for pair in found]
    assert differences == sorted(differences) and 0 <= differences[0] <= differences[-1] < 0.02


def test_the_difference_is_one_minus_numpys_correlation(images):
    _, test = images
    copies = np.stack([encoded(image, 60) for image in test])
    for query, bank, difference, mirrored in find(small(test), small(copies)):
        assert not mirrored
        wanted = 1 - np.corrcoef(small(test)[query].ravel(), small(copies)[bank].ravel())[0, 1]
        assert difference == pytest.approx(wanted, abs=1e-5)


def test_few_images_and_images_of_one_color():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 4, 4, 3))
    blank = np.full((1, 4, 4, 3), 7)
    assert [pair[:2] for pair in find(image, image)] == [(0, 0)]
    assert find(image, 255 - image) == []
    same_mirrored = np.concatenate([image, image[:, :, ::-1]], axis=2)
    assert [pair.mirrored for pair in find(same_mirrored, same_mirrored)] == [False]
    assert find(np.concatenate([blank, image]), np.concatenate([blank, blank, image]))[0][:2] == (
        1,
        2,
    )
    assert find(blank, blank) == [] and find(image, blank) == [] and find(image, image[:0]) == []
