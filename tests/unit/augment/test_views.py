"""Views, and what all random operations have in common."""

import numpy as np
import pytest
import tensorflow as tf

from helpers.distributions import assert_fraction, assert_quantiles, random_images
from simclrv2_tf import augment


def test_flip_and_blur_act_on_half_of_the_images():
    images = random_images(1, 12, 12, 3)
    batch = np.broadcast_to(images, (4000, 12, 12, 3))
    flipped = augment.random_flip(batch, seed=(1, 2)).numpy()
    mirrored = (flipped == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert np.all(mirrored | (flipped == images).all(axis=(1, 2, 3)))
    assert_fraction(mirrored.mean(), 4000, 0.5, np.inf)

    # Sigma decides by how much an image changes; half of the images change by nothing.
    blurred = augment.random_blur(batch, kernel_size=3, seed=(1, 2)).numpy()
    change = np.abs(blurred - images).mean(axis=(1, 2, 3))
    levels = np.array([0.02, 0.1, 0.25, 0.5, 0.75, 0.9])
    sigmas = (0.1 + 1.9 * levels).astype(np.float32)
    at_level = augment.gaussian_blur(np.broadcast_to(images, (6, 12, 12, 3)), 3, sigmas)
    at_level = np.abs(at_level - images).mean(axis=(1, 2, 3))
    assert_quantiles(change, at_level, 0.5 + 0.5 * levels, np.inf, fuzz=0)


def test_view_is_flip_color_and_blur_in_this_order(monkeypatch):
    calls = []
    for name in ("orientation", "color", "randomly_blurred"):
        original = getattr(augment.views, name)

        def record(batch, *args, name=name, original=original):
            calls.append(name)
            return original(batch, *args)

        monkeypatch.setattr(augment.views, name, record)
    augment.pretraining_view(random_images(2, 10, 10, 3))
    assert calls == ["orientation", "color", "randomly_blurred"]


def test_view_without_color_and_blur_is_a_flip():
    batch = random_images(40, 20, 20, 3)
    views = augment.pretraining_view(batch, (1, 2), strength=0.0, blur=False).numpy()
    mirrored = (views == batch[:, :, ::-1]).all(axis=(1, 2, 3))
    plain = (views == batch).all(axis=(1, 2, 3))
    assert np.all(mirrored | plain) and mirrored.any() and plain.any()
    np.testing.assert_array_equal(augment.random_color(batch, 0.0), batch)


@pytest.mark.parametrize(
    "options, words",
    [
        (
            {},
            "crop area 0.08 to 1, flip horizontal, no rotation, color jitter 1 (v2), "
            "grayscale 0.2, blur of half of the views",
        ),
        (
            {"min_crop_area": 0.25, "flip": "both", "rotate": True, "color_jitter_strength": 0.0},
            "crop area 0.25 to 1, flip horizontal and vertical, rotation by multiples of 90 "
            "degrees, no color jitter, blur of half of the views",
        ),
        (
            {"flip": "none", "use_blur": False, "color_jitter_version": "v1"},
            "crop area 0.08 to 1, no flip, no rotation, color jitter 1 (v1), grayscale 0.2, "
            "no blur",
        ),
    ],
)
def test_settings_in_words(options, words):
    assert augment.ViewOptions(**options).views_in_words() == words


OPERATIONS = {
    "random_flip": augment.random_flip,
    "random_color": lambda images, seed=None: augment.random_color(images, 1.0, seed=seed),
    "random_blur": lambda images, seed=None: augment.random_blur(images, 5, seed=seed),
    "pretraining_view": augment.pretraining_view,
}
on_every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


@on_every_operation
def test_images_of_a_batch_draw_independently(operation):
    image = random_images(20, 20, 3)
    views = operation(np.stack([image] * 64), seed=(3, 4)).numpy().reshape(64, -1)
    if operation is augment.random_flip:
        assert len(np.unique(views, axis=0)) == 2
    else:
        # Few draws leave an image unchanged, so most views are distinct.
        assert len(np.unique(views, axis=0)) > 64 * 0.4
    assert views.min() >= 0 and views.max() <= 1


@on_every_operation
def test_a_seed_decides_everything(operation):
    batch = random_images(16, 20, 20, 3)
    first = operation(batch, seed=(3, 4))
    assert first.dtype == tf.float32 and first.shape == batch.shape
    tf.random.uniform(())  # stateful draws in between change nothing
    np.testing.assert_array_equal(first, operation(batch, seed=tf.constant([3, 4], tf.int32)))
    np.testing.assert_array_equal(first, operation(batch, seed=np.array([3, 4], np.int64)))
    assert np.any(first != operation(batch, seed=(3, 5)))

    traced = tf.function(
        lambda images, seed: operation(images, seed=seed),
        input_signature=[
            tf.TensorSpec((None, 20, 20, 3), tf.float32),
            tf.TensorSpec((2,), tf.int64),
        ],
    )
    np.testing.assert_allclose(traced(batch, [3, 4]), first, atol=1e-5)
    np.testing.assert_allclose(traced(batch[:0], [3, 4]), batch[:0])


@on_every_operation
def test_one_image_is_a_batch_of_one(operation):
    image = random_images(20, 20, 3)
    views = []
    for i in range(8):
        one = operation(image, seed=(i, 10))
        assert one.shape == (20, 20, 3)
        np.testing.assert_array_equal(one, operation(image[None], seed=(i, 10))[0])
        views.append(one.numpy())
    # Both outcomes of every decision occur, so the paths on which no image is drawn ran too.
    assert any((view == image).all() for view in views) or operation is augment.pretraining_view
    assert any((view != image).any() for view in views)


@pytest.mark.parametrize("operation", [augment.random_flip, augment.pretraining_view])
def test_parts_of_a_batch_draw_as_the_whole(operation):
    batch = random_images(12, 20, 20, 3)
    whole = operation(batch, seed=(3, 4)).numpy()
    for index in range(3):
        part = operation(batch[index::3], seed=(3, 4), shard=(index, 3))
        np.testing.assert_allclose(part, whole[index::3], atol=1e-6)
    same_image = operation(np.stack([batch[0]] * 12), seed=(3, 4), shard=(1, 2)).numpy()
    assert len(np.unique(same_image.reshape(12, -1), axis=0)) > 1
    with pytest.raises(ValueError, match="`seed`"):
        operation(batch, shard=(0, 2))
    with pytest.raises(ValueError, match="`shard`"):
        operation(batch, seed=(3, 4), shard=(2, 2))


@pytest.mark.parametrize("batched", [False, True])
def test_without_a_seed_each_execution_draws_anew(batched):
    images = random_images(20, 20, 3)

    def view(image):
        if batched:
            return augment.pretraining_view(tf.stack([image] * 2), blur=True)[0]
        return augment.pretraining_view(augment.random_crop(image, 20), blur=True)

    def distinct(views):
        return len(np.unique(np.stack(views).reshape(len(views), -1), axis=0))

    traced = tf.function(view)
    # Batched, there is no crop: a tenth of the draws are one of four images without jitter and
    # blur. Draws that repeat themselves would leave 1 of 12, and 1 or 6 of the last 18.
    assert distinct([traced(images) for _ in range(12)]) > 6
    assert distinct([view(images) for _ in range(6)]) > 2
    data = tf.data.Dataset.from_tensors(images).repeat(6).map(view, num_parallel_calls=2)
    assert distinct([*data.repeat(2).as_numpy_iterator(), *data.as_numpy_iterator()]) >= 10
