"""The loop: callbacks as in `fit`, several steps in a call, and a NaN stops it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers.stages import batches_from, conv_encoder, pretrainer, train
from simclrv2_tf import weights as checkpoints
from simclrv2_tf.training import divergence, loop
from simclrv2_tf.training.callbacks import SaveCheckpoints


def test_nan_loss_stops_the_loop_before_callbacks_see_it():
    stage = pretrainer(encoder=conv_encoder, penalty=lambda variables: tf.constant(float("nan")))
    seen = []
    watch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda b, logs: seen.append(b))
    with pytest.raises(divergence.NonFiniteError, match="step 1 of 6"):
        train(stage, 0, 6, callbacks=[watch])
    assert not seen


def test_loop_calls_callbacks_as_fit_does():
    events = []

    class Watch(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            events.append("begin")

        def on_epoch_begin(self, epoch, logs=None):
            events.append(("epoch", epoch, self.params["steps"]))

        def on_train_batch_end(self, batch, logs=None):
            events.append((batch, sorted(logs)))

        def on_epoch_end(self, epoch, logs=None):
            events.append(("end", epoch))

        def on_train_end(self, logs=None):
            events.append("end")

    history = train(pretrainer(encoder=conv_encoder), 0, 5, callbacks=[Watch()])
    names = sorted(
        ["loss", "contrast_loss", "contrast_accuracy", "contrast_entropy", "probe_loss"]
        + ["probe_accuracy", "learning_rate"]
    )
    assert events == [
        "begin",
        ("epoch", 0, 2),
        (0, names),
        (1, names),
        ("end", 0),
        ("epoch", 1, 3),
        (0, names),
        (1, names),
        (2, names),
        ("end", 1),
        "end",
    ]
    assert len(history.history["contrast_loss"]) == 2


@pytest.fixture(scope="module")
def one_by_one():
    """Weights after ten steps in calls of one, and the loss of the last epoch."""
    alone = pretrainer(encoder=conv_encoder)
    train(alone, 0, 10)
    return [v.numpy() for v in alone.weights], float(alone.get_metrics_result()["loss"])


@pytest.mark.parametrize("steps", [3, 50])
def test_several_steps_in_a_call_are_the_same_steps(steps, one_by_one, tmp_path):
    seen = []

    class Seen(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append((batch, int(self.model.optimizer.iterations.numpy()), logs["loss"]))

    stage = pretrainer(encoder=conv_encoder)
    store = checkpoints.Checkpoints(str(tmp_path), checkpoints.named(stage.weights), keep=9)
    loop.train(
        stage,
        tf.distribute.get_strategy(),
        batches_from(6),
        schedule=lambda step: 0.5,
        total_steps=10,
        epochs=2,
        start_step=0,
        steps_per_execution=steps,
        callbacks=[Seen(), SaveCheckpoints(store, 4, 1)],
        verbose=0,
    )
    # Every call ends with its epoch, which has 5 steps.
    ends = [min(i + steps, 5) for i in range(0, 5, steps)]
    assert [(batch, step) for batch, step, _ in seen] == [
        (end - 1, 5 * epoch + end) for epoch in (0, 1) for end in ends
    ]
    # A checkpoint at each fourth step, or at the end of the call that it falls in; and at the end.
    made = [5 * epoch + end for epoch in (0, 1) for end in ends]
    due = sorted({min(step for step in made if step >= wanted) for wanted in (4, 8)} | {10})
    assert sorted(int(f.stem[5:]) for f in tmp_path.glob("ckpt-*.index")) == due
    weights, loss = one_by_one
    for v, w in zip(stage.weights, weights, strict=True):
        np.testing.assert_allclose(v.numpy(), w, rtol=1e-5, atol=1e-6)
    assert seen[-1][2] == pytest.approx(loss, rel=1e-5)
