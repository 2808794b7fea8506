"""A request to stop, which may come as several signals."""

import signal
import time
from collections.abc import Sequence

ONE_REQUEST = 0.5  # seconds in which more signals are the same request


def absorb_repeats(numbers: Sequence[int]) -> None:
    """Ignores signals for `ONE_REQUEST` seconds; to be called where the first one is answered.

    `timeout` signals its command and the command's group, and Linux signals a child for each thread
    of its dying parent: without this, such a request would be taken for two, of which the second
    ends a program at once. The caller sets what answers a second request.

    Args:
        numbers: The signals to ignore.
    """
    for number in numbers:
        signal.signal(number, _same_request)
    time.sleep(ONE_REQUEST)


def _same_request(number, frame):
    pass
