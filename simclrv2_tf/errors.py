"""The errors that a command answers with one line and an exit status."""

import contextlib
import errno
import re
import sys
from collections.abc import Callable, Iterable, Iterator


class UserError(ValueError):
    """Something that the user can put right; the message says what, and is all that is shown.

    Attributes:
        exit_status: Of a command that it ends: 2 where the input is wrong and nothing was begun, 1
            where a run failed.
    """

    exit_status = 2

    @property
    def lines(self) -> tuple[str, ...]:
        """The problems, one line each."""
        return (str(self),)


class UserErrors(UserError):
    """Several problems that are reported at once.

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
    """The user, or the machine's scheduler, ended a command; the message says what was done last.

    No `Exception`, so that nothing on the way takes it for a problem of its own.

    Attributes:
        exit_status: 128 and the number of the signal.
    """

    exit_status = 130


@contextlib.contextmanager
def raised_as(kind: type[UserError], problem: str, advice: str = "") -> Iterator[None]:
    """Raises what a library raises, on a damaged file for example, as `kind`.

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
    """TensorFlow could not carry out an operation: a full disk, too little memory, a lost host."""

    exit_status = 1


@contextlib.contextmanager
def one_line_from_tensorflow() -> Iterator[None]:
    """Raises an error of a TensorFlow operation as `OperationError`, by its first line."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        # An error within a graph comes after the graph's traceback, before its node.
        inside = re.search(r"^(.+)\n\s*\[\[\{\{node", error.message, re.MULTILINE)
        text = inside[1] if inside else error.message
        lines = (re.sub(r"^\{\{.*?\}\}\s*", "", line) for line in text.splitlines())
        what = next(filter(None, lines), "") or "An operation failed"
        full = "No space left" in error.message
        advice = "Free some space, and" if full else "Once that is mended,"
        raise OperationError(
            f"{what.strip()} ({type(error).__name__}). {advice} rerun the same command to resume; "
            "--debug shows where it happened."
        ) from error


def report(error: Exception, os_error: int = 1) -> int:
    """Prints the lines of a `UserError`, or an `OSError`; returns the exit status."""
    known = isinstance(error, UserError)
    for line in error.lines if known else (_of_system(error),):
        print(f"Error: {line}", file=sys.stderr)
    return error.exit_status if known else os_error


def _of_system(error: Exception) -> str:
    """The line of an `OSError`: the file, the problem, and what to do."""
    if not isinstance(error, OSError) or error.filename is None:
        return str(error)
    advice = {
        errno.EACCES: "Give a path that this user may use, or change its permissions.",
        errno.EPERM: "Give a path that this user may use, or change its permissions.",
        errno.EROFS: "Give a path on a disk that can be written to.",
        errno.ENOSPC: "Free some space, and rerun the same command.",
        errno.EDQUOT: "Free some space, and rerun the same command.",
    }.get(error.errno or 0, "")
    return f"{error.filename}: {error.strerror}. {advice}".strip()


def exit_status(
    command: Callable[[], object],
    *,
    debug: bool = False,
    os_error: int = 1,
    stopped: str = "Stopped.",
) -> int:
    """Runs a command and reports what ends it on standard error.

    Args:
        command: The function to run.
        debug: Whether errors are raised, with their traceback, instead of reported.
        os_error: The exit status of an `OSError`, such as a full disk.
        stopped: What to say when the user interrupts the command.

    Returns:
        0, a `UserError`'s own status, `os_error`, or 128 and the signal that interrupted it.
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
