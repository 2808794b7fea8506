"""TensorBoard's scalars, as TensorBoard reads them."""

import keras
import pytest
import tensorflow as tf
from etils import epath
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers.stages import conv_encoder, pretrainer, train
from simclrv2_tf.training import callbacks, summaries


def scalars(folder):
    """The points (step, value) of each tag."""
    held = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    held.Reload()
    return {
        tag: [
            (event.step, float(tf.make_ndarray(event.tensor_proto))) for event in held.Tensors(tag)
        ]
        for tag in held.Tags()["tensors"]
    }


@pytest.mark.parametrize(("every", "steps"), [(0, [2, 5]), (2, [2, 4, 5]), (100, [2, 5])])
def test_each_epoch_and_the_last_step_have_a_point(tmp_path, every, steps):
    """Two epochs, of two and three steps; the validation's run has the tags of training's."""
    seen = []
    measures = iter(({"val_loss": 3.0, "representation_rank": 4.0}, {"val_loss": 2.0}))

    class Seen(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(logs["loss"])

    watching = [
        callbacks.Validate(lambda: next(measures), 1),
        Seen(),
        summaries.Summaries(epath.Path(tmp_path), every),
    ]
    train(pretrainer(encoder=conv_encoder), 0, 5, callbacks=watching)
    trained = scalars(tmp_path / "train")
    assert [step for step, _ in trained["loss"]] == steps
    at_ends = [value for step, value in trained["loss"] if step in (2, 5)]
    assert at_ends == pytest.approx(seen, rel=1e-6)
    assert trained["representation/rank"] == [(2, 4.0)]
    assert not any(name.startswith(("val", "representation_")) for name in trained)
    assert scalars(tmp_path / "validation") == {"loss": [(2, 3.0), (5, 2.0)]}


def test_an_evaluation_has_the_tags_of_training(tmp_path):
    assert summaries.tag("probe_accuracy") == summaries.tag("label_top_1_accuracy")
    result = {"label_top_1_accuracy": 0.5, "loss": 1.0, "embedding_rank": 3.0}
    summaries.write(epath.Path(tmp_path), result, 7)
    assert scalars(tmp_path) == {
        "top_1_accuracy": [(7, 0.5)],
        "loss": [(7, 1.0)],
        "representation/embedding_rank": [(7, 3.0)],
    }
