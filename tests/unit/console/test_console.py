"""What a run shows: a few lines in a pipe, bars on a terminal of 100 columns."""

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios

import keras
import pyte
import pytest

from helpers.paths import ROOT
from helpers.stages import conv_encoder, pretrainer, train
from simclrv2_tf import console, report
from simclrv2_tf.console import consoles, text
from simclrv2_tf.experiments import registry
from simclrv2_tf.experiments.run_files import STARTS
from simclrv2_tf.training.loop import Waits


def test_lines_are_few_and_have_few_metrics(capsys):
    stage = pretrainer(encoder=conv_encoder)
    lines = console.LineConsole()
    assert lines.verbose == 0 and lines.evaluation() == []
    train(stage, 0, 12, callbacks=lines.training(12))
    first, last = capsys.readouterr().out.splitlines()
    number = r"\d+\.\d{3}, online classifier \d+\.\d%"
    assert re.fullmatch(rf"  step 6 of 12 in \d+ s: contrastive loss {number}", first)
    assert re.fullmatch(
        rf"  12 steps in \d+ s, \d+% waiting for data: contrastive loss {number}", last
    )


def test_a_resumed_stage_says_nothing_of_what_is_behind_it(capsys):
    stage = pretrainer(encoder=conv_encoder)
    stage.optimizer.iterations.assign(8)
    train(stage, 8, 12, callbacks=console.LineConsole().training(12))
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_stage_that_stops_early_says_how_far_it_came(capsys):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = True

    callbacks = [Stop(), *console.LineConsole().training(100)]
    train(pretrainer(encoder=conv_encoder), 0, 100, callbacks=callbacks)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("  step 1 of 100 in ")


def test_long_epochs_are_not_silent(capsys, monkeypatch):
    from simclrv2_tf.console import lines

    monkeypatch.setattr(lines, "_MOST_SILENT", -1)
    train(pretrainer(encoder=conv_encoder), 0, 4, callbacks=console.LineConsole().training(4))
    said = capsys.readouterr().out.splitlines()
    assert [line.split(" in ")[0].strip() for line in said] == [
        "step 1 of 4",
        "step 2 of 4",
        "step 3 of 4",
        "4 steps",
    ]


@pytest.mark.parametrize(
    ("logs", "words"),
    [
        ({"loss": 2.0, "learning_rate": 0.1}, "loss 2.000"),
        ({"loss": 2.0, "top_1_accuracy": 0.5, "top_5_accuracy": 1.0}, "loss 2.000, top-1 50.0%"),
        (
            {"loss": 2.0, "top_1_accuracy": 0.5, "val_top_1_accuracy": 0.4},
            "loss 2.000, val top-1 40.0%, top-1 50.0%",
        ),
        (
            {"loss": 3.0, "contrast_loss": 2.5, "contrast_accuracy": 0.125},
            "contrastive loss 2.500, contrastive top-1 12.5%",
        ),
        ({}, ""),
    ],
)
def test_metrics_in_words(logs, words):
    assert text.metrics_in_words(logs) == words


def test_the_longest_line_fits_100_columns():
    stage = pretrainer(encoder=conv_encoder)
    stage.waits = Waits()
    for _ in range(3):
        stage.waits.add(1.0, 2.0)
    logs = {"distill_loss": 12.3456, "val_top_1_accuracy": 0.123, "teacher_agreement": 0.567}
    line = text.progress_in_words(stage, 390_000, 390_000, 3 * 86400 + 7200, logs)
    assert line.endswith("val top-1 12.3%, agreement 56.7%") and len(line) <= 100


@pytest.mark.parametrize(
    ("shown", "verbose", "terminal", "notebook", "kind", "of_keras"),
    [
        (False, True, True, False, "Console", 0),
        (True, True, True, False, "KerasConsole", 2),
        (True, False, True, False, "TerminalConsole", 0),
        (True, False, False, False, "LineConsole", 0),
        (True, False, False, True, "KerasConsole", 1),
    ],
)
def test_where_a_run_is_shown(monkeypatch, shown, verbose, terminal, notebook, kind, of_keras):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(consoles, "_in_notebook", lambda: notebook)
    keras.utils.enable_interactive_logging()
    made = console.make_console([1.0], shown, verbose)
    assert (type(made).__name__, made.verbose) == (kind, of_keras)


@pytest.mark.parametrize(("term", "columns"), [("dumb", "80"), ("xterm", "20")])
def test_where_bars_cannot_be_drawn_there_are_lines(monkeypatch, term, columns):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(consoles, "_in_notebook", lambda: False)  # whatever else was imported
    keras.utils.enable_interactive_logging()
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("COLUMNS", columns)
    assert isinstance(console.make_console([1.0], True, False), console.LineConsole)


# A run of two stages, drawn on a terminal; the second trains in steps of 20 ms.
PROGRAM = """
import time
from types import SimpleNamespace
from simclrv2_tf import environment
environment.start()
from absl import logging
from simclrv2_tf.console import TerminalConsole

def stage(console, place, seconds):
    console.begin(place)
    print(f"[{place + 1}/2] stage, " + "x" * 60, flush=True)
    (callback,) = console.training(20)
    variable = SimpleNamespace(numpy=lambda: step)
    model = SimpleNamespace(optimizer=SimpleNamespace(iterations=variable), waits=None)
    callback.set_model(model)
    step = 0
    callback.on_train_begin()
    for step in range(1, 21):
        time.sleep(seconds / 20)
        callback.on_train_batch_end(step, {"loss": 1 / step, "top_1_accuracy": step / 20})
        if step == 10:
            logging.warning("a warning of stage %d", place + 1)
    callback.on_train_end({"loss": 0.05, "top_1_accuracy": 1.0})
    (callback,) = console.evaluation()
    callback.set_params({"steps": 2})
    callback.on_test_batch_end(1)
    console.end()

with TerminalConsole([1.0, 1.0]) as console:
    stage(console, 0, 1.0)
    stage(console, 1, 1.0)
print("done")
"""


def on_terminal(program, columns=100, rows=30):
    """What a program writes on a pseudo-terminal of a size."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    environment.pop("COLUMNS", None)
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)  # else TensorFlow's lines are the user's wish
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=child, stdout=child, stderr=child, env=environment
    )
    os.close(child)
    written = b""
    while True:
        try:
            part = os.read(parent, 65536)
        except OSError:  # the other end has closed
            break
        if not part:
            break
        written += part
    os.close(parent)
    assert process.wait() == 0, written[-2000:]
    return written.decode()


def test_bars_on_a_terminal():
    written = on_terminal(PROGRAM)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written)
    lines = [line.strip("\r") for line in re.split(r"[\r\n]+", plain)]
    assert max(map(len, lines)) <= 100
    assert any("stage 1 of 2" in line and "step" in line for line in lines)
    assert any(re.search(r"run +[\u2501\u2578\u257a]+ +about \d+ s left", line) for line in lines)
    assert any("top-1" in line and "loss" in line for line in lines)
    # On the screen, on which bars are drawn over: what is printed and warned of stays.
    screen = pyte.Screen(100, 30)
    pyte.Stream(screen).feed(written)
    shown = [line.rstrip() for line in screen.display if line.strip()]
    for stage in (1, 2):
        assert sum(f"a warning of stage {stage}" in line for line in shown) == 1
        assert f"[{stage}/2] stage, {'x' * 60}" in shown
    assert not any("left" in line for line in shown) and shown[-1] == "done"
    # What is printed stays; the bars are gone at the end.
    ended = [line for line in lines if line][-1]
    assert ended == "done"
    assert sum("20 steps in 1 s: loss 0.050, top-1 100.0%" in line for line in lines) == 2


def test_long_lines_break_between_words_on_a_terminal_alone(monkeypatch, capsys):
    line = "  Images: " + "word " * 30 + "/a/path-that/" + "x" * 120
    assert text.broken(line) == line
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda **_: os.terminal_size((100, 40)))
    lines = text.broken(line).split("\n")
    assert [len(each) <= 100 for each in lines] == [True, True, False]
    assert lines[1].startswith("    word") and lines[2] == "    /a/path-that/" + "x" * 120
    assert " ".join(map(str.strip, lines)) == line.strip()
    assert text.broken("short") == "short"


def test_the_closing_table_of_the_demo_fits_100_columns():
    """That of pretraining and linear evaluation, whose names are the longest."""
    titles = {mode: stage.title for mode, stage in registry.stages().items()}
    starts = [titles["linear_eval"] + start for start in STARTS.values()]
    own = ("ResNet-18 0.25x", 10_000, "77.6 (75.8, 79.4)", "99.6", 114)
    head = ["stage", "encoder", "labels", "top-1 (%)", "top-5", "seconds"]
    shown = report.table(head, [(name, *own) for name in (titles["pretrain"], *starts)])
    assert len(shown.splitlines()) == 5
    assert max(map(len, shown.splitlines())) <= 100
