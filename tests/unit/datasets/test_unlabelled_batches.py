"""Views of unlabelled images for labelled training: resumed, sharded, weak and strong."""

import numpy as np
import pytest

from helpers.colored import assert_same, take
from simclrv2_tf import augment, datasets
from simclrv2_tf.augment import ViewOptions
from simclrv2_tf.experiments.data import without_labels

OPTIONS = {"image_size": 20, "seed": 0}
KINDS = ((False,), (False, False), (False, True))


@pytest.mark.parametrize("strong", KINDS)
def test_batches_are_views_alone_and_resume_as_left_out(packaged, strong):
    split = without_labels(packaged.split("train[:23]"))
    whole = take(datasets.unlabelled_batches(split, strong=strong, batch_size=5, **OPTIONS), 8)
    assert all(len(views) == len(strong) for views in whole)
    for views in whole:
        for view in views:
            assert view.shape == (5, 20, 20, 3) and view.dtype == np.float32
            assert view.min() >= 0 and view.max() <= 1
    rest = datasets.unlabelled_batches(split, strong=strong, batch_size=5, start_step=6, **OPTIONS)
    assert_same(take(rest, 2), whole[6:])


@pytest.mark.parametrize("strong", KINDS)
def test_shards_together_make_the_single_host_batch(packaged, strong):
    split = packaged.split("train[:30]")
    make = datasets.unlabelled_batches
    whole = take(make(split, strong=strong, batch_size=12, **OPTIONS), 3)[2]
    parts = [
        take(make(split, strong=strong, batch_size=6, shard=(i, 2), **OPTIONS), 3)[2]
        for i in range(2)
    ]
    for number, view in enumerate(whole):
        together = np.stack([views[number] for views in parts], 1).reshape(view.shape)
        np.testing.assert_allclose(together, view, atol=1e-6)


def test_weak_views_are_flipped_crops_and_strong_ones_are_more(packaged, monkeypatch):
    """With whole images for crops, a weak view is the image or its mirror image."""
    made = []

    def mark(batch, seed, shard):
        made.append(shard)
        return 1.0 - batch

    monkeypatch.setattr(augment, "strong_view", mark)
    split = packaged.split("train[:9]")
    whole = ViewOptions(min_crop_area=1.0)
    batches = datasets.unlabelled_batches(
        split, strong=(False, True), batch_size=9, image_size=28, seed=1, views=whole
    )
    assert made == [(0, 1)]
    [(weak, strong)] = take(batches, 1)
    # Aspect ratios other than 1 crop a little: the nearest image identifies each.
    images = np.stack([e["image"] / 255 for e in split.examples().as_numpy_iterator()])
    both = np.concatenate([images, images[:, :, ::-1]])
    for view in (weak, 1 - strong):
        distances = np.abs(view[:, None] - both[None]).mean((2, 3, 4))
        assert sorted(distances.argmin(1) % 9) == list(range(9))
    assert not np.array_equal(weak, 1 - strong)  # crops and flips of their own


def test_weak_views_follow_the_labelled_views(packaged):
    """With `labelled_views` "pretrain" they are jittered, as views of labelled images are."""
    split = packaged.split("train[:9]")
    found = {}
    for kind in ("crop_flip", "pretrain"):
        views = ViewOptions(labelled_views=kind, min_crop_area=1.0, use_blur=False)
        batches = datasets.unlabelled_batches(
            split, strong=(False,), batch_size=9, image_size=28, seed=1, views=views
        )
        [(found[kind],)] = take(batches, 1)
    assert not np.allclose(found["crop_flip"], found["pretrain"], atol=0.05)
