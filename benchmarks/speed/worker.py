"""A process that times steps on request, so that programs can alternate."""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable


def serve(step: Callable[[], object], warm_up: int = 3) -> None:
    """Reads a number of seconds per line, and prints milliseconds of steps as JSON.

    Steps run for this many seconds, at least two steps; `warm_up` steps precede the first request.
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
    """The client of `serve`, a context manager.

    The process is paused between requests, so that its threads do not disturb others and its
    buffers do not fill.

    Args:
        command: The program and its arguments.
        environment: Its environment variables.

    Attributes:
        parameters: The number that the program printed after "parameters", or None.

    Raises:
        RuntimeError: When the program ends, with the last lines of its standard error.
    """

    def __init__(self, command: list[str], environment: dict[str, str]):
        self.parameters: int | None = None
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        try:
            self._read("ready")
            self._process.send_signal(signal.SIGSTOP)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def milliseconds(self, seconds: float) -> list[float]:
        """Returns the milliseconds of each step within a number of seconds."""
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        found = json.loads(self._read("["))
        self._process.send_signal(signal.SIGSTOP)
        return found

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._errors.close()

    def _read(self, start: str) -> str:
        for line in self._process.stdout:
            if line.startswith("parameters "):
                self.parameters = int(line.split()[1])
            if line.startswith(start):
                return line
        self._process.wait()
        self._errors.seek(0)
        last = "".join(self._errors.readlines()[-20:])
        raise RuntimeError(f"{self._process.args} ended with {self._process.returncode}:\n{last}")
