"""Start-up seconds of the commands, relative to `import tensorflow`.

Command: python benchmarks/speed/startup.py (about ten minutes)

Each row runs a command in a separate process, alternating. "first step" ends the demo's command
after its first training step and the reading of its metrics. Processor seconds cover all threads,
and vary less than wall seconds if other programs run.

`--before=CHECKOUT` also runs the whole demo with the package in another checkout, alternating.
"""

import argparse
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import machine

RUN = [sys.executable, "-m", "simclrv2_tf.run", "--mode=train_then_eval"]
TWO_STEPS = "whole demo, two steps per stage"
BEFORE = f"{TWO_STEPS}, before"
KINDS = ("seconds", "processor_seconds")
# The loop reads the metrics of each step with `numbers`.
FIRST_STEP = """
import os, sys
from simclrv2_tf import environment
environment.prepare()
from simclrv2_tf.run import main
from simclrv2_tf.training import loop
numbers = loop.numbers
loop.numbers = lambda metrics: (numbers(metrics), os._exit(0))
main(["run", "--mode=train_then_eval", *sys.argv[1:]])
"""


def seconds(
    command: list[str], status: int = 0, checkout: str | None = None
) -> tuple[float, float]:
    """Returns wall and processor seconds of a command, which must end with `status`."""
    own = {"PYTHONPATH": checkout} if checkout else {}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **own})
    taken = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != status:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr[-2000:]}")
    return taken, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(
    folder: pathlib.Path, turns: int, long_turns: int, before: str | None = None
) -> dict[str, dict[str, dict[str, float]]]:
    """Returns the figures of each row: "seconds" and "processor_seconds"."""
    finished = f"--model_dir={folder / 'finished'}"
    two_steps = [*RUN, "--train_steps=2"]
    figures: dict[str, list[tuple[float, float]]] = {"import tensorflow": [], TWO_STEPS: []}
    for turn in range(long_turns):
        figures["import tensorflow"].append(seconds([sys.executable, "-c", "import tensorflow"]))
        target = finished if turn == 0 else f"--model_dir={folder / str(turn)}"
        figures[TWO_STEPS].append(seconds([*two_steps, target]))
        if before:
            earlier = [*two_steps, f"--model_dir={folder / f'before{turn}'}"]
            figures.setdefault(BEFORE, []).append(seconds(earlier, checkout=before))
    for turn in range(turns):
        rows = {
            "import tensorflow": ([sys.executable, "-c", "import tensorflow"], 0),
            "--help": ([*RUN, "--help"], 0),
            "missing folder": ([*RUN, "--dataset=folder:missing"], 2),
            "changed flag": ([*two_steps, finished, "--temperature=0.3"], 2),
            "finished before": ([*two_steps, finished], 0),
            "first step of the demo": (
                [sys.executable, "-c", FIRST_STEP, f"--model_dir={folder / f'first{turn}'}"],
                0,
            ),
        }
        for name, (command, status) in rows.items():
            figures.setdefault(name, []).append(seconds(command, status))
    return {
        kind: {name: machine.summary([f[place] for f in of]) for name, of in figures.items()}
        for place, kind in enumerate(KINDS)
    }


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """Returns the figures as a Markdown table.

    Args:
        results: Result of `measure`; one of the two kinds may be missing.
    """
    kinds = [kind for kind in KINDS if kind in results]
    header = ["command"]
    for kind in kinds:
        header += [kind.replace("_", " "), "times `import tensorflow`"]
    rows = [header, ["---"] * len(header)]
    for name in results[kinds[0]]:
        cells = [name]
        for kind in kinds:
            figure, unit = results[kind][name], results[kind]["import tensorflow"]["median"]
            cells.append(f"{figure['median']:.2f} ({figure['least']:.2f}-{figure['largest']:.2f})")
            cells.append(f"{figure['median'] / unit:.1f}")
        rows.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def main() -> None:
    """Measures, prints the table and writes results.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--long_turns", type=int, default=3, help="rounds of the whole demo")
    parser.add_argument("--before", help="another checkout, to time its demo too")
    parser.add_argument(
        "--name", default="startup", help="name of the record; may be startup, NOTE"
    )
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with tempfile.TemporaryDirectory() as folder:
        results = measure(
            pathlib.Path(folder), arguments.turns, arguments.long_turns, arguments.before
        )
    print(f"{machine.processor()}\n\n{table(results)}")
    machine.record(arguments.name, results)


if __name__ == "__main__":
    main()
