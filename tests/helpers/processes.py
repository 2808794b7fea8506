"""Starts small runs in processes of their own, one or several that train together; kills them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3"}


def python(*arguments, cwd=None, **variables):
    """Runs a program to its end, which must be good; returns what it printed.

    Args:
        arguments: Those of the interpreter, such as "-m" and a module.
        cwd: The program's folder.
        variables: Environment variables to add to this process's.
    """
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **_QUIET, **variables},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def start(command, logs, workers=1, own=((), ()), exports=False):
    """Starts the processes of one small run; each logs to `logs/worker_INDEX.log`.

    Args:
        command: The options of all, see `small.run`.
        own: More options for each.
    """
    cluster = {"worker": [f"127.0.0.1:{port}" for port in _free_ports(workers)]}
    processes = []
    for index in range(workers):
        environment = {**os.environ, **_QUIET}
        if workers > 1:
            task = {"type": "worker", "index": index}
            environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
        program = [sys.executable, "-m", "helpers.small_run"] + ["--no_exports"] * (not exports)
        with (logs / f"worker_{index}.log").open("w") as log:
            processes.append(
                subprocess.Popen(
                    [*program, *command, *own[index]],
                    env=environment,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )
    return processes


def kill_after_the_first_checkpoint(processes, folder, logs):
    """Kills the last of `processes`, then the others: without it they cannot train."""
    try:
        # Named in this file, a checkpoint is complete.
        while not (folder / "checkpoints" / "checkpoint").exists():
            assert all(process.poll() is None for process in processes), [
                path.read_text()[-3000:] for path in logs.glob("worker_*.log")
            ]
            time.sleep(0.01)
        processes[-1].send_signal(signal.SIGKILL)
        if len(processes) > 1:
            time.sleep(0.2)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert processes[-1].returncode == -signal.SIGKILL
    assert not (folder / "result.json").exists(), "it ended before it could be killed"


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
