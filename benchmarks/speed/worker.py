"""A process that waits until it is asked for the time of a step, so that others can take turns."""

import json
import subprocess
import sys
import time
from collections.abc import Callable


def serve(step: Callable[[], object], warm_up: int = 3) -> None:
    """Answers each line of the input, a number of seconds, with milliseconds of steps as JSON.

    Steps run for so many seconds, two at least; `warm_up` steps come before the first question.
    """
    for _ in range(warm_up):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        until, taken = time.perf_counter() + float(line), []
        while len(taken) < 2 or time.perf_counter() < until:
            began = time.perf_counter()
            step()
            taken.append(1000 * (time.perf_counter() - began))
        print(json.dumps(taken), flush=True)


class Worker:
    """The other side of `serve`.

    Args:
        command: The program and its arguments.
        environment: Its environment variables.
    """

    def __init__(self, command: list[str], environment: dict[str, str]):
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._read("ready")

    def milliseconds(self, seconds: float) -> list[float]:
        """Milliseconds of each step in so many seconds."""
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        return json.loads(self._read("["))

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()

    def _read(self, start: str) -> str:
        for line in self._process.stdout:
            if line.startswith(start):
                return line
        raise RuntimeError(f"{self._process.args} ended with {self._process.wait()}")
