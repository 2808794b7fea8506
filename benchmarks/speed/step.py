"""Milliseconds of a pretraining step, compared with PyTorch and with only the convolutions.

Command: pip install '.[bench]' && python benchmarks/speed/step.py (about 15 minutes)

Each program is a separate process, which is paused while another is measured; the programs
alternate. A figure of a round is the median of its steps. The table has the medians over rounds,
with minimum and maximum; ratios compare figures of the same round.
"""

import argparse
import contextlib
import os
import pathlib
import statistics
import sys

import machine
from cases import CASES
from worker import Worker

from simclrv2_tf import precision

HERE = pathlib.Path(__file__).parent
# TensorFlow's own default on such a processor.
NO_ONEDNN = {"TF_ENABLE_ONEDNN_OPTS": "0"}


def measure(case: str, compute: str, environment: dict[str, str], turns: int, seconds: float):
    """Returns the milliseconds per step of each program in each round."""
    figures: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:

        def start(program, *arguments, **variables):
            command = [sys.executable, str(HERE / program), case, compute, *arguments]
            return stack.enter_context(Worker(command, environment | variables))

        workers = {
            "ours": start("our_step.py", "step"),
            "pytorch": start("pytorch_step.py"),
            "convolutions": start("our_step.py", "convolutions"),
        }
        if case == "demo":
            workers["ours with views"] = start("our_step.py", "run")
            workers["views"] = start("our_step.py", "views")
        if environment.get("ONEDNN_MAX_CPU_ISA") == "AVX2":
            workers["ours without oneDNN"] = start("our_step.py", "step", **NO_ONEDNN)
        counts = {name: worker.parameters for name, worker in workers.items() if worker.parameters}
        if len(set(counts.values())) != 1:
            raise ValueError(f"The numbers of parameters differ: {counts}.")
        for _ in range(turns):
            for name, worker in workers.items():
                taken = statistics.median(worker.milliseconds(seconds))
                figures.setdefault(name, []).append(round(taken, 1))
    return figures


def table(results: dict[str, dict[str, list[float]]]) -> str:
    """The figures as a table in Markdown.

    The bound only runs the convolutions, and draws the views if ours does.
    """
    lines = [
        "| step | ours (ms) | PyTorch (ms) | PyTorch / ours | bound (ms) | ours / bound |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, figures in results.items():
        for ours in ("ours", "ours with views", "ours without oneDNN"):
            if ours not in figures:
                continue
            bound = figures["convolutions"]
            if ours == "ours with views":
                bound = [a + b for a, b in zip(bound, figures["views"], strict=True)]
            shown = [
                name + ours.removeprefix("ours").replace(" with", ", with"),
                _shown(figures[ours]),
                _shown(figures["pytorch"]),
                _ratio(figures["pytorch"], figures[ours]),
                _shown(bound),
                _ratio(figures[ours], bound),
            ]
            lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)


def _shown(figures: list[float]) -> str:
    return f"{statistics.median(figures):,.0f} ({min(figures):,.0f}-{max(figures):,.0f})"


def _ratio(above: list[float], below: list[float]) -> str:
    """Returns ratios of figures of the same round."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def main() -> None:
    """Measures, prints the table and writes results.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="seconds of steps per round")
    parser.add_argument("--case", action="append", choices=CASES, help="default: all")
    parser.add_argument(
        "--precision", choices=("auto", "float32", "mixed_bfloat16"), default="auto"
    )
    parser.add_argument("--avx2", action="store_true", help="simulate a processor with only AVX2")
    arguments = parser.parse_args()
    label, environment, compute = "step", dict(os.environ), arguments.precision
    if arguments.avx2:
        environment |= machine.AVX2
        label, compute = "step, AVX2 simulated", "float32"
    elif compute == "auto":
        compute, _ = precision.choose(False, (), precision.processor_flags())
    results = {}
    for case in arguments.case or CASES:
        results[case] = measure(case, compute, environment, arguments.turns, arguments.seconds)
        print("\n".join(table({case: results[case]}).splitlines()[2:]), flush=True)
    print(f"\n{label}, {compute}, {machine.processor()}\n\n{table(results)}")
    name = f"{label}, {compute}"
    machine.record(name, {"turns": arguments.turns, "milliseconds": results})


if __name__ == "__main__":
    main()
