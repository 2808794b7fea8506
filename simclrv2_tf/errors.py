"""The errors that a command reports in one line, and their exit status."""

import contextlib
import errno
import re
import sys
from collections.abc import Callable, Iterable, Iterator


class UserError(ValueError):
    """An error that the user can fix. Only its message is shown, which explains how.

    Attributes:
        exit_status: Exit status of the command: 2 if the input is wrong and nothing has started, 1
            if a run failed.
    """

    exit_status = 2

    @property
    def lines(self) -> tuple[str, ...]:
        """The problems, one line each."""
        return (str(self),)


class UserErrors(UserError):
    """Several problems, reported together.

    Attributes:
        errors: tuple of str, one line for each problem; `str(error)` joins them with newlines.
    """

    def __init__(self, errors: Iterable[str]):
        self.errors = tuple(errors)
        super().__init__(self.errors)

    def __str__(self) -> str:
        return "\n".join(self.errors)

    @property
    def lines(self) -> tuple[str, ...]:
        return self.errors


class Interrupted(KeyboardInterrupt):
    """The user or a scheduler ended a command; the message says what was done last.

    Not an `Exception`, so that no handler in between catches it.

    Attributes:
        exit_status: 128 and the number of the signal.
    """

    exit_status = 130


@contextlib.contextmanager
def raised_as(kind: type[UserError], problem: str, advice: str = "") -> Iterator[None]:
    """Converts exceptions of a library, such as for a damaged file, to `kind`.

    The message is "problem (reason). advice", where the reason is the library's first line.
    """
    try:
        yield
    except kind:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        raise kind(f"{problem} ({reason}). {advice}".strip()) from error


class OperationError(UserError):
    """A TensorFlow operation failed: a full disk, too little memory, a lost host."""

    exit_status = 1


@contextlib.contextmanager
def one_line_from_tensorflow() -> Iterator[None]:
    """Converts an error of a TensorFlow operation to an `OperationError` with its first line."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        # An error in a graph follows the graph's traceback and precedes its node.
        inside = re.search(r"^(.+)\n\s*\[\[\{\{node", error.message, re.MULTILINE)
        text = inside[1] if inside else error.message
        lines = (re.sub(r"^\{\{.*?\}\}\s*", "", line) for line in text.splitlines())
        what = next(filter(None, lines), "") or "An operation failed"
        full = "No space left" in error.message
        advice = "Free some space, then" if full else "Fix the cause, then"
        raise OperationError(
            f"{what.strip()} ({type(error).__name__}). {advice} rerun the same command to resume; "
            "--debug shows the traceback."
        ) from error


def report(error: Exception, os_error: int = 1) -> int:
    """Prints the lines of a `UserError`, or an `OSError`; returns the exit status."""
    known = isinstance(error, UserError)
    for line in error.lines if known else (_of_system(error),):
        print(f"Error: {line}", file=sys.stderr)
    return error.exit_status if known else os_error


def _of_system(error: Exception) -> str:
    """Returns the line for an `OSError`: the file, the problem, and what to do."""
    if not isinstance(error, OSError) or error.filename is None:
        return str(error)
    advice = {
        errno.EACCES: "Give a path that this user can access, or change its permissions.",
        errno.EPERM: "Give a path that this user can access, or change its permissions.",
        errno.EROFS: "Give a path on a disk that can be written to.",
        errno.ENOSPC: "Free some space, then rerun the same command.",
        errno.EDQUOT: "Free some space, then rerun the same command.",
    }.get(error.errno or 0, "")
    return f"{error.filename}: {error.strerror}. {advice}".strip()


def exit_status(
    command: Callable[[], object],
    *,
    debug: bool = False,
    os_error: int = 1,
    stopped: str = "Stopped.",
) -> int:
    """Runs a command; reports errors and interrupts on standard error.

    Args:
        command: The function to run.
        debug: Whether to raise errors, with their traceback, instead of reporting them.
        os_error: The exit status of an `OSError`, such as a full disk.
        stopped: The message if the user interrupts the command.

    Returns:
        0, a `UserError`'s own status, `os_error`, or 128 plus the signal that interrupted it.
    """
    try:
        command()
    except (UserError, OSError) as error:
        if debug:
            raise
        return report(error, os_error)
    except Interrupted as interruption:
        print(f"\n{interruption}", file=sys.stderr)
        return interruption.exit_status
    except KeyboardInterrupt:
        print(f"\n{stopped}", file=sys.stderr)
        return 130
    return 0
