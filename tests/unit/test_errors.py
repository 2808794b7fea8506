"""Errors of commands: one line each, and the exit status of their kind."""

import errno

import pytest
import tensorflow as tf

from simclrv2_tf import errors
from simclrv2_tf.errors import UserError, UserErrors
from simclrv2_tf.training.divergence import NonFiniteError


def raising(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "lines"),
    [
        (UserError("`a` must be 1. Received: a=2"), 2, ["`a` must be 1. Received: a=2"]),
        (UserErrors(["one", "two"]), 2, ["one", "two"]),
        (NonFiniteError("The loss became nan."), 1, ["The loss became nan. No checkpoint"]),
        (OSError("disk full"), 1, ["disk full"]),
        (
            PermissionError(errno.EACCES, "Permission denied", "runs/a"),
            1,
            ["runs/a: Permission denied. Give a path that this user can access"],
        ),
        (OSError(errno.ENOSPC, "No space", "a.csv"), 1, ["a.csv: No space. Free some space"]),
        (OSError(errno.ENOTDIR, "Not a directory", "a/b"), 1, ["a/b: Not a directory."]),
    ],
)
def test_a_command_reports_and_returns_the_status(error, status, lines, capsys):
    assert errors.exit_status(raising(error)) == status
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == len(lines)
    assert all(line.startswith(f"Error: {text}") for line, text in zip(shown, lines, strict=True))


def test_an_interrupted_command_says_how_to_resume(capsys):
    status = errors.exit_status(raising(KeyboardInterrupt()), stopped="Rerun to resume.")
    assert status == 130 and "Rerun to resume." in capsys.readouterr().err
    assert errors.exit_status(lambda: 5) == 0


def test_other_errors_and_debugging_keep_the_traceback():
    with pytest.raises(ZeroDivisionError):
        errors.exit_status(lambda: 1 / 0)
    with pytest.raises(UserError):
        errors.exit_status(raising(UserError("x")), debug=True)
    assert errors.exit_status(raising(OSError("x")), os_error=2) == 2


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("{{function_node __x}} disk/a.data; No space left on device\nmore", "Free some space"),
        ("OOM when allocating a tensor", "Fix the cause, then"),
        ("", "UnavailableError"),
        (
            "Graph execution error:\n\nDetected at node X defined at (most recent call last):\n"
            '  File "x.py", line 1, in f\n\nThe host is lost\n\t [[{{node X}}]] [Op:__inference_f]',
            "Error: The host is lost (UnavailableError)",
        ),
    ],
)
def test_an_operation_of_tensorflow_fails_in_one_line(message, words, capsys):
    def command():
        with errors.one_line_from_tensorflow():
            raise tf.errors.UnavailableError(None, None, message)

    assert errors.exit_status(command) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line and "rerun the same command" in line and "{{" not in line
    with pytest.raises(errors.OperationError):
        errors.exit_status(command, debug=True)
