"""Signals: a step is finished and saved, and nothing is saved twice or in the wrong place."""

import os
import signal
import threading
import time

import keras
import pytest

from helpers.stages import pretrainer, train
from simclrv2_tf import signals
from simclrv2_tf.training import stopping


class Sends(keras.callbacks.Callback):
    """Sends this process a signal at the beginning of a step."""

    def __init__(self, number, batch):
        super().__init__()
        self._number, self._batch = number, batch

    def on_train_batch_begin(self, batch, logs=None):
        if batch == self._batch:
            os.kill(os.getpid(), self._number)


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_step_is_finished_and_saved(number, status):
    stage, saved = pretrainer(), []

    def save():
        saved.append(int(stage.optimizer.iterations.numpy()))

    with pytest.raises(stopping.Stopped, match="Saved step 2 of 3") as caught:
        with stopping.stopping_by_signals():
            train(stage, 0, 3, callbacks=[Sends(number, 1), stopping.StopWhenAsked(save, 3)])
    assert caught.value.exit_status == status and saved == [2]
    assert signal.Signals(number).name in str(caught.value)


def test_an_epochs_last_step_waits_for_its_row():
    stage, order = pretrainer(), []
    row = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: order.append("row"))
    stop = stopping.StopWhenAsked(lambda: order.append("saved"), 6)
    with pytest.raises(stopping.Stopped, match="Saved step 3 of 6"):
        with stopping.stopping_by_signals():
            train(stage, 0, 6, callbacks=[Sends(signal.SIGTERM, 2), row, stop])
    assert order == ["row", "saved"]


def test_outside_of_training_it_ends_at_once():
    with pytest.raises(stopping.Stopped) as caught, stopping.stopping_by_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("the signal was not answered")
    assert caught.value.exit_status == 143


def test_a_second_signal_ends_at_once():
    stage = pretrainer()

    class Twice(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(signals.ONE_REQUEST)
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("the second signal was not answered")

    with pytest.raises(KeyboardInterrupt), stopping.stopping_by_signals():
        train(stage, 0, 3, callbacks=[Twice(), stopping.StopWhenAsked(lambda: None, 3)])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_sent_together_are_one_request(number):
    """By `timeout` to a command and its group; by Linux for each thread of a dying parent."""
    stage, saved = pretrainer(), []

    def send():
        for _ in range(3):
            os.kill(os.getpid(), number)
            time.sleep(0.05)

    class Together(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            sender.start()
            sender.join()

    sender = threading.Thread(target=send)
    stop = stopping.StopWhenAsked(lambda: saved.append(1), 3)
    with pytest.raises(stopping.Stopped, match="Saved step 1 of 3"), stopping.stopping_by_signals():
        train(stage, 0, 3, callbacks=[Together(), stop])
    assert saved == [1]


def test_the_earlier_handlers_come_back():
    before = [signal.getsignal(number) for number in stopping.SIGNALS]
    with pytest.raises(stopping.Stopped), stopping.stopping_by_signals():
        os.kill(os.getpid(), signal.SIGTERM)
    assert [signal.getsignal(number) for number in stopping.SIGNALS] == before


def test_a_signal_within_a_finalizer_is_not_lost(capsys):
    """Python ignores an exception that is raised there, after it has printed a traceback."""

    class Held:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(1000):
                pass

    with pytest.raises(stopping.Stopped), stopping.stopping_by_signals():
        held = Held()
        del held
        time.sleep(5)
    assert "Traceback" not in capsys.readouterr().err
