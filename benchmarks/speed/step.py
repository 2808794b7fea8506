"""Milliseconds of a pretraining step beside PyTorch's, and beside the convolutions alone.

Command: pip install '.[bench]' && python benchmarks/speed/step.py (about 15 minutes)

Each contestant is a process of its own, which is idle while another is measured; they take turns.
A figure of a turn is the median of its steps. The table has the medians of the turns, with the
smallest and the largest.
"""

import argparse
import os
import pathlib
import sys

import machine
from cases import CASES
from worker import Worker

from simclrv2_tf import precision

HERE = pathlib.Path(__file__).parent
# What a processor with AVX2 alone would run; the libraries read these when they are loaded.
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}


def contestants(case: str, compute: str, environment: dict[str, str]) -> dict[str, Worker]:
    """The processes of a case."""

    def start(program, *arguments):
        command = [sys.executable, str(HERE / program), case, compute, *arguments]
        return Worker(command, environment)

    found = {
        "ours": start("our_step.py", "step"),
        "pytorch": start("pytorch_step.py"),
        "convolutions": start("our_step.py", "convolutions"),
    }
    if case == "demo":
        found["views"] = start("our_step.py", "views")
    return found


def measure(case: str, compute: str, environment: dict[str, str], turns: int, seconds: float):
    """The figures of each contestant, in milliseconds a step."""
    workers = contestants(case, compute, environment)
    figures: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(turns):
        for name, worker in workers.items():
            figures[name].append(machine.summary(worker.milliseconds(seconds))["median"])
    for worker in workers.values():
        worker.close()
    return {name: machine.summary(of) for name, of in figures.items()}


def table(results: dict[str, dict]) -> str:
    """The figures as a table in Markdown."""
    lines = [
        "| step | ours (ms) | PyTorch / ours | PyTorch (ms) | convolutions (ms) | views (ms) |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, figures in results.items():
        shown = [_shown(figures.get(key)) for key in ("ours", "pytorch", "convolutions", "views")]
        ratio = figures["pytorch"]["median"] / figures["ours"]["median"]
        shown.insert(1, f"{ratio:.2f}")
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _shown(figure: dict[str, float] | None) -> str:
    if figure is None:
        return "-"
    return f"{figure['median']:,.0f} ({figure['least']:,.0f}-{figure['largest']:,.0f})"


def main() -> None:
    """Measures, prints the table and writes results.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="of steps in a turn")
    parser.add_argument("--case", action="append", choices=CASES, help="default: all")
    parser.add_argument(
        "--precision", choices=("auto", "float32", "mixed_bfloat16"), default="auto"
    )
    parser.add_argument("--avx2", action="store_true", help="imitate a processor with AVX2 alone")
    arguments = parser.parse_args()
    label, environment, compute = "step", dict(os.environ), arguments.precision
    if arguments.avx2:
        environment |= AVX2
        label, compute = "step, AVX2 imitated", "float32"
    elif compute == "auto":
        compute, _ = precision.choose(False, (), precision.processor_flags())
    results = {}
    for case in arguments.case or CASES:
        results[case] = measure(case, compute, environment, arguments.turns, arguments.seconds)
        print(table({case: results[case]}).splitlines()[-1], flush=True)
    print(f"\n{label}, {compute}, {machine.processor()}\n\n{table(results)}")
    name = f"{label}, {compute}"
    machine.record(name, {"turns": arguments.turns, "milliseconds": results})


if __name__ == "__main__":
    main()
