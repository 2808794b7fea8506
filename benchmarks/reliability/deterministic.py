"""The cost of `--deterministic`: a training step with and without it, alternating.

Command: python benchmarks/reliability/deterministic.py (about 2 minutes)
"""

import json
import os
import pathlib
import statistics
import sys

SPEED = pathlib.Path(__file__).parents[1] / "speed"
sys.path.insert(0, str(SPEED))

import machine  # noqa: E402
from worker import Worker  # noqa: E402

from simclrv2_tf import precision  # noqa: E402

RESULTS = pathlib.Path(__file__).with_name("results.json")
CASES = ("demo", "ResNet-18, 32 px")


def main() -> None:
    """Measures, prints the table and writes results.json."""
    compute, _ = precision.choose(False, (), precision.processor_flags())
    rows = []
    for case in CASES:
        command = [sys.executable, str(SPEED / "our_step.py"), case, compute]
        with (
            Worker([*command, "step"], dict(os.environ)) as plain,
            Worker([*command, "deterministic"], dict(os.environ)) as deterministic,
        ):
            turns = [
                [statistics.median(worker.milliseconds(4)) for worker in (plain, deterministic)]
                for _ in range(5)
            ]
        rows.append({"case": case, "turns": turns})
    found = {"precision": compute, "processor": machine.processor(), "rows": rows}
    print(f"{compute}, {machine.processor()}\n\n{table(found)}")
    held = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    held["deterministic"] = found
    RESULTS.write_text(json.dumps(held, indent=2) + "\n")


def table(found: dict) -> str:
    """Returns the medians as a Markdown table; ratios compare figures of the same round."""
    lines = ["| step | plain (ms) | deterministic (ms) | ratio |", "| --- | --- | --- | --- |"]
    for row in found["rows"]:
        plain, deterministic = zip(*row["turns"], strict=True)
        ratios = [b / a for a, b in row["turns"]]
        lines.append(
            f"| {row['case']} | {statistics.median(plain):,.0f} | "
            f"{statistics.median(deterministic):,.0f} | {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f}-{max(ratios):.2f}) |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
