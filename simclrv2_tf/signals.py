"""Requests to stop, which may arrive as several signals."""

import signal
import time
from collections.abc import Sequence

ONE_REQUEST = 0.5  # seconds in which more signals are the same request


def absorb_repeats(numbers: Sequence[int]) -> None:
    """Ignores signals for `ONE_REQUEST` seconds; call it in the handler of the first signal.

    `timeout` signals its command and the command's group, and Linux signals a child once per thread
    of its dying parent. Without this function, one request would look like two, and a second
    request ends a program immediately. The caller sets the handler of a second request.

    Args:
        numbers: The signals to ignore.
    """
    for number in numbers:
        signal.signal(number, _same_request)
    time.sleep(ONE_REQUEST)


def _same_request(number, frame):
    pass
