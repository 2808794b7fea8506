"""Pipelines: exact resuming, epochs, shards, evaluation, and the views of training."""

import gc

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from helpers.colored import TEST, TRAIN, assert_same, examples_of, number_of, take
from simclrv2_tf import augment, datasets
from simclrv2_tf.augment import ViewOptions

PIPELINES = (datasets.pretraining_batches, datasets.training_batches)

# Pretraining views of one size, so that all pipelines of a shard share what is traced.
ONE_SIZE = {"image_size": 20, "seed": 0}


def test_resuming_gives_what_was_left_out(split, trained):
    whole, options = trained
    for start in (4, 11):  # an epoch ends in batch 4
        rest = take(datasets.training_batches(split, start_step=start, **options), 12 - start)
        assert_same(rest, whole[start:])


def test_resuming_pretraining_gives_what_was_left_out(packaged):
    options = {"batch_size": 5, "image_size": 20, "seed": 3}
    split = packaged.split("train[:23]")
    whole = take(datasets.pretraining_batches(split, **options), 8)
    assert_same(take(datasets.pretraining_batches(split, start_step=4, **options), 4), whole[4:])


def test_resuming_with_cache_and_shards(split):
    options = {"batch_size": 3, "image_size": 8, "seed": 3, "cache": True, "shard": (1, 2)}
    whole = take(datasets.training_batches(split, **options), 9)
    assert_same(take(datasets.training_batches(split, start_step=6, **options), 3), whole[6:])


def test_shapes_types_and_ranges(packaged):
    split = packaged.split("train[:23]")
    pretraining = datasets.pretraining_batches(split, batch_size=5, **ONE_SIZE)
    training = datasets.training_batches(split, batch_size=5, **ONE_SIZE)
    image = tf.TensorSpec((5, 20, 20, 3), tf.float32)
    label = tf.TensorSpec((5,), tf.int64)
    assert pretraining.element_spec == ((image, image), label)
    assert training.element_spec == (image, label)
    assert pretraining.cardinality() == training.cardinality() == tf.data.INFINITE_CARDINALITY
    for (view1, view2), _ in take(pretraining, 3):
        for view in (view1, view2):
            assert view.min() >= 0 and view.max() <= 1


def test_views_steps_and_examples_have_their_own_draws(packaged):
    split = packaged.split("train[:4]")
    options = {"batch_size": 4, **ONE_SIZE}
    batches = take(datasets.pretraining_batches(split, **options), 6)
    views = np.concatenate([np.concatenate(pair) for pair, _ in batches])
    assert len({view.tobytes() for view in views}) == len(views)
    # Without color and blur, the views still differ by their crops.
    plain = ViewOptions(color_jitter_strength=0.0, use_blur=False)
    batches = datasets.pretraining_batches(split, views=plain, **options)
    ((view1, view2), _) = take(batches, 1)[0]
    assert all(not np.array_equal(a, b) for a, b in zip(view1, view2, strict=True))


def epochs_of(split, count, seed=0, **options):
    """Numbers (folder, TFDS) in the order of training, epoch by epoch; batches of one."""
    batches = datasets.training_batches(split, batch_size=1, image_size=8, seed=seed, **options)
    size = split.shard_size(options.get("shard", (0, 1)))
    numbers = [number_of(image)[0] for image, _ in take(batches, count * size)]
    return [numbers[size * epoch : size * (epoch + 1)] for epoch in range(count)]


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("kind", ["folder", "tfds"])
def test_each_epoch_is_a_new_order_of_all_examples(numbered, kind, cache):
    split = numbered[kind].split("train")
    epochs = epochs_of(split, 3, cache=cache)
    assert all(sorted(epoch) == list(range(TRAIN)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    # The global seed of the caller has no part in it.
    tf.random.set_seed(12345)
    assert epochs_of(split, 2, cache=cache) == epochs[:2]


def test_another_seed_is_another_order_and_other_crops(packaged):
    split = packaged.split("train[:23]")
    (image0, label0), (image1, label1) = (
        take(datasets.training_batches(split, batch_size=23, image_size=8, seed=seed), 1)[0]
        for seed in (0, 1)
    )
    assert sorted(label0) == sorted(label1) and label0.tolist() != label1.tolist()
    assert not {image.tobytes() for image in image0} & {image.tobytes() for image in image1}


@pytest.mark.parametrize("split", ["folder", "tfds"], indirect=True)
def test_labels_stay_with_their_images_in_training(trained):
    batches, _ = trained
    for images, labels in batches:
        assert [number % 3 for number in number_of(images)] == labels.tolist()


def test_evaluation_of_small_images_is_the_images(packaged):
    split = packaged.split("train[:23]")
    examples = examples_of(split)
    ((images, labels, _),) = take(
        datasets.evaluation_batches(split, batch_size=23, image_size=28), -1
    )
    np.testing.assert_array_equal(labels, [example["label"] for example in examples])
    expected = np.stack([example["image"] for example in examples]) / 255
    np.testing.assert_allclose(images, expected, atol=1e-6)


def test_training_shards_are_disjoint_and_complete(numbered):
    count = 2
    # One permutation dealt out: each run of TRAIN examples, over all shards, is a whole epoch.
    split = numbered["folder"].split("train")
    streams = []
    for index in range(count):
        batches = datasets.training_batches(
            split, batch_size=1, image_size=8, seed=0, shard=(index, count)
        )
        streams.append([number_of(image)[0] for image, _ in take(batches, TRAIN)])
    dealt = [number for turn in zip(*streams, strict=True) for number in turn]
    single = [number for epoch in epochs_of(split, count) for number in epoch]
    assert dealt == single

    # Streams read their own part only.
    split = numbered["tfds"].split("train")
    parts = [epochs_of(split, 2, shard=(index, count)) for index in range(count)]
    assert all(sorted(first) == sorted(second) for first, second in parts)
    assert sorted(number for first, _ in parts for number in first) == list(range(TRAIN))


def test_shards_together_make_the_single_host_batch(packaged):
    """Images, labels, crops and every other draw: the number of hosts changes nothing."""
    split = packaged.split("train[:30]")
    whole, whole_labels = take(datasets.pretraining_batches(split, batch_size=12, **ONE_SIZE), 3)[2]
    parts = [
        take(datasets.pretraining_batches(split, batch_size=6, shard=(i, 2), **ONE_SIZE), 3)[2]
        for i in range(2)
    ]
    labels = np.stack([labels for _, labels in parts], axis=1).reshape(-1)
    np.testing.assert_array_equal(labels, whole_labels)
    for view in (0, 1):
        views = np.stack([views[view] for views, _ in parts], axis=1)  # (6, 2, S, S, 3)
        np.testing.assert_allclose(views.reshape(whole[view].shape), whole[view], atol=1e-6)


@pytest.mark.parametrize("labelled_views", ["crop_flip", "pretrain"])
def test_shards_together_make_the_single_host_training_batch(packaged, labelled_views):
    split = packaged.split("train[:30]")
    options = {**ONE_SIZE, "views": ViewOptions(labelled_views=labelled_views)}
    whole, _ = take(datasets.training_batches(split, batch_size=12, **options), 4)[3]
    parts = [
        take(datasets.training_batches(split, batch_size=6, shard=(i, 2), **options), 4)[3][0]
        for i in range(2)
    ]
    np.testing.assert_allclose(np.stack(parts, 1).reshape(whole.shape), whole, atol=1e-6)


@pytest.mark.parametrize("kind", ["folder", "tfds"])
def test_evaluation_counts_every_example_once(numbered, kind):
    split = numbered[kind].split("test+train[:2]")
    assert split.num_examples == TEST + 2
    seen, lengths = [], set()
    for index in range(2):  # 5 + 4 or 4 + 5 examples
        batches = datasets.evaluation_batches(split, batch_size=2, image_size=8, shard=(index, 2))
        assert all(spec.shape[0] == 2 for spec in batches.element_spec)
        listed = take(batches, -1)
        lengths |= {len(batches), len(listed)}
        for images, labels, weights in listed:
            assert set(weights) <= {0.0, 1.0}
            numbers = np.array(number_of(images))[weights == 1]
            np.testing.assert_array_equal(labels[weights == 1], numbers % 3)
            assert ((labels >= 0) & (labels < 3)).all()
            seen += numbers.tolist()
    expected = [int(example["image"][0, 0, 1]) for example in examples_of(split)]
    assert lengths == {3} and sorted(seen) == sorted(expected) and len(seen) == TEST + 2


def test_evaluation_with_more_shards_than_examples(numbered):
    for dataset in numbered.values():
        split = dataset.split("train[:1]")
        total = [
            sum(weight.sum() for _, _, weight in take(batches, -1))
            for index in range(2)
            for batches in [
                datasets.evaluation_batches(split, batch_size=2, image_size=8, shard=(index, 2))
            ]
        ]
        assert sorted(total) == [0, 1]


def test_cached_evaluation_is_the_same(split):
    options = {"batch_size": 4, "image_size": 8}
    plain = take(datasets.evaluation_batches(split, **options), -1)
    cached = datasets.evaluation_batches(split, cache=True, **options)
    for _ in range(2):
        assert_same(take(cached, -1), plain)


def test_iterator_outlives_its_dataset(folder):
    split = datasets.open_dataset(f"folder:{folder}").split("train")
    iterator = iter(datasets.training_batches(split, batch_size=4, image_size=8, seed=0))
    del split
    gc.collect()
    for _ in range(8):
        images, _ = next(iterator)
    assert images.shape == (4, 8, 8, 3)


def crops_by_hand(split, size, batch_size, steps, seed, antialias=False):
    """(step, its draw, crops, labels), from the documented rule, an example at a time."""
    examples, count = examples_of(split), split.num_examples

    def draw_for(use, position):
        seeds, position = tf.constant([seed, use], tf.int64), tf.constant(position, tf.int64)
        return tf.random.fold_in(seeds, position)

    for step in range(steps):
        crops, labels = [], []
        for position in range(step * batch_size, (step + 1) * batch_size):
            epoch, place = divmod(position, count)
            order = tf.random.experimental.stateless_shuffle(
                tf.range(count, dtype=tf.int64), draw_for(0, epoch)
            )
            example = examples[int(order[place])]
            draw = tf.random.split(draw_for(1, position), 1)[0]
            image, area = example["image"], (0.08, 1.0)
            crops.append(augment.random_crop(image, size, area, seed=draw, antialias=antialias))
            labels.append(example["label"])
        yield draw_for(2, step), tf.stack(crops), labels


def test_training_flips_and_no_more_by_default(packaged):
    split = packaged.split("train[:9]")
    batches = take(datasets.training_batches(split, batch_size=4, image_size=12, seed=6), 4)
    by_hand = crops_by_hand(split, 12, 4, 4, seed=6)
    for (images, labels), (draw, crops, expected_labels) in zip(batches, by_hand, strict=True):
        np.testing.assert_array_equal(images, augment.random_flip(crops, draw))
        assert labels.tolist() == expected_labels


@pytest.mark.parametrize("strength, version, blur", [(0.5, "v1", False), (0.0, "v2", True)])
def test_training_with_color_or_blur_is_a_pretraining_view(packaged, strength, version, blur):
    split = packaged.split("train[:9]")
    views = ViewOptions(
        color_jitter_strength=strength,
        color_jitter_version=version,
        use_blur=blur,
        labelled_views="pretrain",
    )
    options = {"batch_size": 4, "image_size": 20, "seed": 6, "views": views}
    batches = take(datasets.training_batches(split, **options), 4)
    by_hand = crops_by_hand(split, 20, 4, 4, seed=6)
    changes = []
    for (images, labels), (draw, crops, expected_labels) in zip(batches, by_hand, strict=True):
        view = augment.pretraining_view(crops, draw, strength=strength, version=version, blur=blur)
        np.testing.assert_allclose(images, view, atol=1e-5)
        assert labels.tolist() == expected_labels
        for image, crop in zip(images, crops, strict=True):
            flips = (crop, tf.reverse(crop, [1]))
            changed = min(np.abs(image - flip).max() for flip in flips) > 0.01
            changes.append(changed)
    assert sum(changes) > len(changes) / 4  # one in five keeps its colors, one in two is sharp
    resumed = datasets.training_batches(split, start_step=2, **options)
    assert_same(take(resumed, 2), batches[2:])


def test_labelled_crops_are_flipped_and_rotated_as_chosen(packaged):
    split = packaged.split("train[:9]")
    chosen = {"flip": "both", "rotate": True}
    views = ViewOptions(color_jitter_strength=0.0, use_blur=False, **chosen)
    options = {"batch_size": 4, "image_size": 12, "seed": 6, "views": views}
    batches = take(datasets.training_batches(split, **options), 4)
    by_hand = crops_by_hand(split, 12, 4, 4, seed=6)
    for (images, _), (draw, crops, _) in zip(batches, by_hand, strict=True):
        np.testing.assert_array_equal(images, augment.random_orientation(crops, draw, **chosen))
    assert_same(take(datasets.training_batches(split, start_step=2, **options), 2), batches[2:])


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A folder of noise of 40 x 50 pixels."""
    folder = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(0)
    for number in range(6):
        pixels = rng.integers(0, 256, (40, 50, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{number}.png")
    return datasets.open_dataset(f"folder:{folder}").split("train")


@pytest.mark.parametrize("antialias", [False, True])
def test_antialiasing_reaches_crops_and_evaluation_images(large, antialias):
    options = {"batch_size": 4, "image_size": 10, "seed": 6, "antialias": antialias}
    batches = take(datasets.training_batches(large, **options), 2)
    by_hand = crops_by_hand(large, 10, 4, 2, seed=6, antialias=antialias)
    for (images, _), (draw, crops, _) in zip(batches, by_hand, strict=True):
        np.testing.assert_array_equal(images, augment.random_flip(crops, draw))
    del options["seed"]
    batches = take(datasets.evaluation_batches(large, **options), -1)
    images = np.concatenate([images for images, _, _ in batches])
    expected = [augment.evaluation_image(e["image"], 10, antialias) for e in examples_of(large)]
    np.testing.assert_array_equal(images[: len(expected)], expected)


def test_the_first_views_are_those_of_the_first_batch_with_their_images(numbered):
    for dataset in numbered.values():
        split = dataset.split("train")
        options = {"image_size": 8, "seed": 3}
        plain = ViewOptions(color_jitter_strength=0.0, use_blur=False)
        batches = datasets.pretraining_batches(split, batch_size=7, views=plain, **options)
        (expected, _) = take(batches, 1)[0]
        *views, images = datasets.first_views(split, count=7, views=plain, **options)
        for view, other in zip(views, expected, strict=True):
            np.testing.assert_array_equal(view, other)
        assert images.shape == (7, 8, 8, 3)
        assert number_of(images) == number_of(views[0]) == number_of(views[1])


def test_the_first_views_have_the_colors_and_the_blur_of_those_that_are_compiled(split):
    options = {"image_size": 20, "seed": 3, "views": ViewOptions(rotate=True, flip="both")}
    (expected, _) = take(datasets.pretraining_batches(split, batch_size=9, **options), 1)[0]
    *views, _ = datasets.first_views(split, count=9, **options)
    for view, other in zip(views, expected, strict=True):
        np.testing.assert_allclose(view, other, atol=1e-5)


@pytest.mark.parametrize("make", PIPELINES)
@pytest.mark.parametrize("batch_size, shard", [(24, (0, 1)), (12, (1, 2))])
def test_batch_larger_than_the_data_set(split, make, batch_size, shard):
    with pytest.raises(datasets.DatasetError, match="at most the number of examples, 23") as caught:
        make(split, batch_size=batch_size, image_size=8, seed=0, shard=shard)
    assert str(caught.value).endswith("Received: batch_size=24")
    datasets.check_batch_size(split, 23)
    with pytest.raises(datasets.DatasetError, match="^`train_batch_size` must be at most"):
        datasets.check_batch_size(split, 24, name="train_batch_size")


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"image_size": 0},
        {"start_step": -1},
        {"shard": (2, 2)},
        {"shard": (0, 0)},
    ],
)
def test_arguments_out_of_range(packaged, wrong):
    options = {"batch_size": 2, "image_size": 8, "seed": 0, **wrong}
    with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` must be"):
        datasets.training_batches(packaged.split("train[:9]"), **options)
