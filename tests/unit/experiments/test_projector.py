"""The projector's files, read back by TensorBoard's own plugin."""

import io
import json

import numpy as np
import pytest
import tensorflow as tf
from etils import epath
from PIL import Image
from tensorboard.backend import application
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins import base_plugin
from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin
from werkzeug.test import Client

from simclrv2_tf.experiments import projector

NAMES = ("T-shirt/top", "tab\tand\nbreak", "<i>&é")


def sampled(count=7, channels=3, labels=None):
    rng = np.random.default_rng(0)
    return {
        "ids": np.array([f"test/<{k}>\t é.png" for k in range(count)]),
        "labels": np.arange(count) % 3 if labels is None else np.array(labels),
        # With the largest and the smallest numbers of float16.
        "representations": np.concatenate(
            [rng.normal(size=(count - 1, 5)), [[65504, -65504, 6e-8, 0, 1 / 3]]]
        ).astype(np.float16),
        "thumbnails": rng.integers(0, 256, (count, 32, 32, channels)).astype(np.uint8),
    }


class Projector:
    """TensorBoard's projector for a folder of runs."""

    def __init__(self, logdir):
        runs = EventMultiplexer().AddRunsFromDirectory(str(logdir)).Reload()
        context = base_plugin.TBContext(
            logdir=str(logdir), data_provider=MultiplexerDataProvider(runs, str(logdir))
        )
        self._client = Client(application.TensorBoardWSGI([ProjectorPlugin(context)]))

    def get(self, kind, **query):
        response = self._client.get(f"/data/plugin/projector/{kind}", query_string=query)
        assert response.status_code == 200, response.get_data(as_text=True)
        return response.get_data()


@pytest.fixture
def written(tmp_path):
    """Writes the files alongside an evaluation's scalars; returns the projector, and its run."""

    def write(found, names=NAMES):
        folder = tmp_path / "photos" / "logs" / "eval"
        with tf.summary.create_file_writer(str(folder)).as_default():
            tf.summary.scalar("loss", 1.0, step=1)
        projector.write(epath.Path(folder), found, names)
        shown = Projector(tmp_path)
        assert json.loads(shown.get("runs")) == ["photos/logs/eval"]
        return shown, {"run": "photos/logs/eval", "name": projector.TENSOR}

    return write


@pytest.mark.parametrize(("count", "columns", "channels"), [(7, 3, 3), (4, 2, 1), (2, 2, 3)])
def test_tensorboard_reads_what_was_sampled(written, count, columns, channels):
    found = sampled(count, channels)
    shown, asked = written(found)
    (embedding,) = json.loads(shown.get("info", run=asked["run"]))["embeddings"]
    assert embedding["tensorName"] == projector.TENSOR
    assert embedding["tensorShape"] == [count, 5]
    assert embedding["sprite"]["singleImageDim"] == [32, 32]
    numbers = np.frombuffer(shown.get("tensor", **asked), np.float32).reshape(count, 5)
    np.testing.assert_array_equal(numbers.astype(np.float16), found["representations"])
    header, *lines = shown.get("metadata", **asked).decode().removesuffix("\n").split("\n")
    assert header == "class\tfile"
    assert [line.split("\t") for line in lines] == [
        [("T-shirt/top", "tab and break", "<i>&é")[k % 3], f"test/<{k}> é.png"]
        for k in range(count)
    ]
    picture = Image.open(io.BytesIO(shown.get("sprite_image", **asked)))
    assert picture.width == columns * 32
    for k, thumbnail in enumerate(found["thumbnails"]):
        left, top = k % columns * 32, k // columns * 32
        cut = np.asarray(picture.crop((left, top, left + 32, top + 32)))
        np.testing.assert_array_equal(cut, np.squeeze(thumbnail))


def test_images_without_labels(written):
    """A single column has no header: TensorBoard takes every line for a point."""
    shown, asked = written(sampled(3, labels=[-1, -1, -1]), ())
    lines = shown.get("metadata", **asked).decode().splitlines()
    assert lines == [f"test/<{k}> é.png" for k in range(3)]


def test_some_images_without_labels(written):
    shown, asked = written(sampled(3, labels=[2, -1, 0]))
    lines = shown.get("metadata", **asked).decode().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["class", "<i>&é", "no label", "T-shirt/top"]


def test_files_are_replaced(written):
    written(sampled(7))
    shown, asked = written(sampled(3))
    assert len(shown.get("metadata", **asked).splitlines()) == 4
    assert np.frombuffer(shown.get("tensor", **asked), np.float32).size == 15
