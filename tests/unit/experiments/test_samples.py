"""The sample of representations that a pretraining leaves for its report."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers.stages import conv_encoder
from simclrv2_tf import augment
from simclrv2_tf.config import Config
from simclrv2_tf.datasets.splits import IndexedSplit
from simclrv2_tf.experiments import samples
from simclrv2_tf.experiments.directory import RunDirectory


def a_split(count=7, channels=3, labelled=True):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 12, 10, channels))
    columns = {
        "id": tf.constant([f"test/<{i}>" for i in range(count)]),
        "image": tf.constant(pixels, tf.uint8),
    }
    if labelled:
        columns["label"] = tf.constant(np.arange(count) % 3, tf.int64)
    return IndexedSplit("test", columns, tf.identity, channels)


class OnlyInOrder:
    """A split that is only read in order, like a split of TensorFlow Datasets."""

    reads_by_id = False

    def __init__(self, split):
        self.num_examples, self.examples = split.num_examples, split.examples


@pytest.fixture
def write(tmp_path):
    def write(split, encoder=None, replicas=1, is_chief=True, **options):
        config = Config(
            image_size=8,
            eval_batch_size=3,
            model_dir=str(tmp_path),
            train_mode="pretrain",
            **options,
        )
        directory = RunDirectory(config)
        run = types.SimpleNamespace(
            config=config,
            eval_split=split,
            directory=directory,
            replicas=replicas,
            is_chief=is_chief,
            build_networks=lambda classes: types.SimpleNamespace(encoder=conv_encoder()),
        )
        samples.write(run, encoder or conv_encoder())
        with np.load(tmp_path / samples.FILE, allow_pickle=False) as found:
            return dict(found)

    return write


def test_a_small_split_is_sampled_whole_and_in_order(write):
    split, encoder = a_split(), conv_encoder()
    found = write(split, encoder)
    assert found["ids"].tolist() == [f"test/<{i}>" for i in range(7)]
    assert found["labels"].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert found["representations"].dtype == np.float16 and found["thumbnails"].dtype == np.uint8
    assert found["thumbnails"].shape == (7, 32, 32, 3)
    for index, example in enumerate(split.examples()):
        image = augment.evaluation_image(example["image"], 8)
        expected = encoder(image[None], training=False)[0]
        np.testing.assert_allclose(found["representations"][index], expected, rtol=2e-3, atol=1e-3)
        mean = found["thumbnails"][index].mean() / 255
        assert mean == pytest.approx(float(tf.reduce_mean(image)), abs=0.02)


def test_a_large_split_is_drawn_by_the_seed(write, monkeypatch):
    monkeypatch.setattr(samples, "_MOST", 4)
    first, again, other = (write(a_split(40), seed=seed)["ids"].tolist() for seed in (1, 1, 2))
    assert first == again != other
    assert len(first) == len({*first}) == 4
    assert first == sorted(first, key=lambda name: int(name[6:-1])), "in the order of the split"


def test_data_that_are_read_in_order_give_the_first_images(write, monkeypatch):
    monkeypatch.setattr(samples, "_MOST", 4)
    found = write(OnlyInOrder(a_split(9)))
    assert found["ids"].tolist() == [f"test/<{i}>" for i in range(4)]


@pytest.mark.parametrize(("channels", "drawn"), [(1, 1), (2, 1), (5, 3)])
def test_images_of_bands_without_labels(write, channels, drawn):
    images = keras.Input((None, None, channels))
    encoder = keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))
    found = write(a_split(channels=channels, labelled=False), encoder, channels=channels)
    assert found["thumbnails"].shape == (7, 32, 32, drawn)
    assert (found["labels"] == -1).all()


def test_large_representations_stay_finite(write):
    images = keras.Input((None, None, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(images)
    found = write(a_split(), keras.Model(images, keras.layers.Rescaling(1e6)(pooled)))
    assert np.isfinite(found["representations"]).all()


def test_more_replicas_take_smaller_batches_and_find_the_same(write):
    encoder = conv_encoder()
    one, four = (write(a_split(), encoder, replicas)["representations"] for replicas in (1, 4))
    np.testing.assert_allclose(one, four, rtol=2e-3)


def test_other_workers_than_the_chief_write_nothing(write):
    with pytest.raises(FileNotFoundError):
        write(a_split(), replicas=2, is_chief=False)


def test_a_split_without_a_readable_image_writes_nothing(write, tmp_path):
    with pytest.raises(FileNotFoundError):
        write(a_split(0))
    assert not (tmp_path / samples.FILE).exists()
