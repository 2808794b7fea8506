"""Seconds of the demo by stage.

Command: python benchmarks/speed/demo.py [--name NAME] [--source CHECKOUT] (about four minutes)

`--source` runs the package of another checkout, with the current environment variables, for figures
of earlier versions under another `--name`. Training seconds come from the run's own tables; the
rest of a stage is building, tracing, evaluating and writing.
"""

import argparse
import csv
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import machine

STAGE = re.compile(r"^\[\d+/\d+\] (\S+)$")


def measure(folder: str, source: str | None) -> dict[str, dict[str, float]]:
    """Returns wall and training seconds by stage, and in total."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if source:
        environment["PYTHONPATH"] = source
    command = [sys.executable, "-m", "simclrv2_tf.run", "--mode=train_then_eval"]
    began = time.perf_counter()
    starts = {"start": began}
    with subprocess.Popen(
        [*command, f"--model_dir={folder}/demo"],
        cwd=folder,  # not in a checkout, whose package would be imported
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        for line in process.stdout:
            if found := STAGE.match(line):
                starts[found[1]] = time.perf_counter()
    ended = time.perf_counter()
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    ends = [*list(starts.values())[1:], ended]
    figures = {}
    for (name, start), end in zip(starts.items(), ends, strict=True):
        history = pathlib.Path(folder) / "demo" / name / "history.csv"
        rows = csv.DictReader(history.open()) if history.exists() else ()
        training = sum(float(row["seconds"]) for row in rows)
        figures[name] = {"seconds": end - start, "training": training}
    training = sum(figure["training"] for figure in figures.values())
    return {**figures, "all": {"seconds": ended - began, "training": training}}


def table(results: dict[str, dict[str, float]]) -> str:
    """Returns the figures as a Markdown table."""
    lines = ["| stage | seconds | of these training |", "| --- | --- | --- |"]
    for name, figure in results.items():
        lines.append(f"| {name} | {figure['seconds']:.1f} | {figure['training']:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Measures, prints the table and writes results.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="now", help="name of these figures in results.json")
    parser.add_argument("--source", help="checkout of the package to run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measure(folder, arguments.source)
    print(f"{machine.processor()}\n\n{table(results)}")
    machine.record(f"demo, {arguments.name}", {"stages": results})


if __name__ == "__main__":
    main()
