"""Stops a run on a signal: finishes and saves the step, then ends the command with a message."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

import keras

from simclrv2_tf import errors, signals

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_AGAIN = 0.02  # seconds


class Stopped(errors.Interrupted):
    """A signal ended the run.

    Args:
        number: The signal.
        where: A sentence about the last completed work; by default that nothing was lost.
    """

    def __init__(self, number: int, where: str = "All finished work is on disk."):
        self.exit_status = 128 + number
        super().__init__(
            f"Stopped by {signal.Signals(number).name}. {where} Rerun the same command to resume."
        )


class _Asked:
    """The received signal, and whether a training step can handle it."""

    def __init__(self):
        self.number: int | None = None
        self.training = False
        self.answer: Callable | None = None  # while `stopping_by_signals` is active


_asked = _Asked()


@contextlib.contextmanager
def stopping_by_signals() -> Iterator[None]:
    """Handles SIGINT and SIGTERM in this context by raising `Stopped`; a second signal ends at
    once.

    In training, the exception is raised after the step, whose checkpoint `StopWhenAsked` writes;
    elsewhere immediately, because file writes are atomic. Has no effect outside the main thread,
    the only one that receives signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = {number: signal.getsignal(number) for number in SIGNALS}

    def answer(number, frame):
        if not _asked.training and _in_finalizer(frame):
            # Python prints and ignores an exception raised there.
            threading.Timer(_AGAIN, os.kill, (os.getpid(), number)).start()
            return
        signals.absorb_repeats(SIGNALS)
        # A second request is not handled here, because this code cannot run during a long step.
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL if each == signal.SIGTERM else _interrupt)
        _asked.number = number
        if not _asked.training:
            raise Stopped(number)
        name = signal.Signals(number).name
        print(f"\n{name}: stopping after this step. Press again to stop immediately.", flush=True)

    _asked.number, _asked.answer = None, answer
    for number in SIGNALS:
        signal.signal(number, answer)
    try:
        yield
    finally:
        _asked.number, _asked.training, _asked.answer = None, False, None
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _in_finalizer(frame) -> bool:
    """Whether the code at `frame` runs inside a `__del__`."""
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def _interrupt(number, frame):
    raise KeyboardInterrupt


class StopWhenAsked(keras.callbacks.Callback):
    """Saves and raises `Stopped` after the step in which a signal arrived.

    Place it after all callbacks that write.

    Args:
        save: Writes a checkpoint of this step.
        total_steps: Steps of the run, for the message.
        agree: Function that combines this process's answer, whether it must stop, with the answers
            of all processes that train together: all must stop after the same step.
    """

    def __init__(
        self,
        save: Callable[[], None],
        total_steps: int,
        agree: Callable[[int], int] = int,
    ):
        super().__init__()
        self._save, self._total, self._agree = save, total_steps, agree

    def on_train_begin(self, logs=None):
        _asked.training = True
        # With several workers TensorFlow has replaced our handler of SIGTERM with its own.
        for number in SIGNALS if _asked.answer else ():
            signal.signal(number, _asked.answer)

    def on_train_end(self, logs=None):
        _asked.training = False

    def on_train_batch_end(self, batch, logs=None):
        # An epoch's last step waits for the epoch's row of the history.
        if batch + 1 < self.params["steps"]:
            self._stop_if_asked()

    def on_epoch_end(self, epoch, logs=None):
        self._stop_if_asked()

    def _stop_if_asked(self):
        if number := self._agree(_asked.number or 0):
            self._save()
            step = int(self.model.optimizer.iterations.numpy())
            raise Stopped(number, f"Saved step {step:,} of {self._total:,}.")
