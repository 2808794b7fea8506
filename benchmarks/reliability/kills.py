"""Kills real runs at random points of all stages, resumes them, and compares with a full run.

Command: python benchmarks/reliability/kills.py --kills=100 (about 50 minutes on two cores)

Adds the figures to results.json, after earlier sessions. Give another --seed each time.

Each run of all stages (pretraining, supervised, fine-tuned, distilled twice) is killed several
times, by SIGKILL or SIGTERM, at random moments, and then runs to its end. Its weights and histories
must equal an uninterrupted run's, bit for bit.
"""

import argparse
import concurrent.futures
import csv
import json
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
import zipfile

import numpy as np

RESULTS = pathlib.Path(__file__).with_name("results.json")
FLAGS = (
    "--mode=train_then_eval --train_mode=semi_supervised --dataset=fashion_mnist_small "
    "--train_split=train[:64] --eval_split=test[:32] --eval_batch_size=32 --label_fraction=0.5 "
    "--resnet_depth=18 --width_multiplier=0.0625 --image_size=16 --proj_out_dim=8 "
    "--train_batch_size=8 --train_steps=40 --warmup_epochs=0 --use_blur=False "
    "--small_student.width_multiplier=0.03125 --checkpoint_steps=7 --precision=float32 "
    "--deterministic=True --export_formats=saved_model"
).split()


def start(folder: pathlib.Path) -> subprocess.Popen:
    """Starts the run in `folder`, or resumes it."""
    log = (folder.parent / f"{folder.name}.log").open("a")
    command = [sys.executable, "-m", "simclrv2_tf.run", *FLAGS, f"--model_dir={folder}"]
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def outcome(folder: pathlib.Path) -> dict:
    """Returns the weights, rows and results of the run in `folder`."""
    found: dict = {}
    for path in sorted(folder.rglob("*.keras")):
        with zipfile.ZipFile(path) as archive:
            found[str(path.relative_to(folder))] = archive.read("model.weights.h5")
    for path in sorted(folder.rglob("history.csv")):
        rows = list(csv.DictReader(path.open()))
        for row in rows:
            del row["seconds"]
        found[str(path.relative_to(folder))] = rows
    for path in sorted(folder.rglob("result*.json")):
        if path.name != "results.json":  # contains seconds
            found[str(path.relative_to(folder))] = json.loads(path.read_text())
    return found


def trial(folder: pathlib.Path, seed: int, kills: int, seconds: float, expected: dict) -> dict:
    """Kills a run `kills` times, then lets it end; returns a report."""
    draw = random.Random(seed)
    report: dict = {"seed": seed, "kills": [], "different": [], "status": None}
    for _ in range(kills):
        number = draw.choice((signal.SIGKILL, signal.SIGTERM))
        process = start(folder)
        try:
            process.wait(draw.uniform(4, seconds))
        except subprocess.TimeoutExpired:
            began = time.monotonic()
            process.send_signal(number)
            status = process.wait()
            report["kills"].append(
                {
                    "signal": number.name,
                    "status": status,
                    "seconds_to_end": round(time.monotonic() - began, 2),
                    "finished_stages": len(list(folder.rglob("result.json"))),
                }
            )
    report["status"] = start(folder).wait()
    found = outcome(folder)
    report["different"] = [name for name in expected if found.get(name) != expected[name]]
    log = (folder.parent / f"{folder.name}.log").read_text()
    report["tracebacks"] = log.count("Traceback (most recent call last)")
    if report["tracebacks"]:
        print(log[log.index("Traceback") - 1000 :][:4000], flush=True)
    return report


def main() -> None:
    """Kills, compares, prints a table and writes results.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="minimum number of kills")
    parser.add_argument("--kills_a_run", type=int, default=8, help="at most")
    parser.add_argument("--jobs", type=int, default=2, help="parallel runs")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as parent:
        root = pathlib.Path(parent)
        began, today = time.monotonic(), time.strftime("%Y-%m-%d %H:%M")
        assert start(root / "whole").wait() == 0, (root / "whole.log").read_text()[-3000:]
        # Shorter than a run, because each session only has the rest of it.
        seconds = max(0.4 * arguments.jobs * (time.monotonic() - began), 8)
        expected = outcome(root / "whole")
        reports: list[dict] = []
        with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
            seeds = iter(range(arguments.seed, arguments.seed + 10_000))
            while sum(len(report["kills"]) for report in reports) < arguments.kills:
                now = [next(seeds) for _ in range(arguments.jobs)]
                reports += pool.map(
                    lambda seed: trial(
                        root / str(seed), seed, arguments.kills_a_run, seconds, expected
                    ),
                    now,
                )
                print(table([{"began": today, **summary(reports)}]), flush=True)
                # After each run, so that an interrupted benchmark keeps its figures.
                held = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
                earlier = [found for found in held.get("kills", []) if found["began"] != today]
                held["kills"] = [*earlier, {"began": today, **summary(reports)}]
                RESULTS.write_text(json.dumps(held, indent=2) + "\n")


def summary(reports: list[dict]) -> dict:
    """Returns the counts over all runs."""
    kills = [kill for report in reports for kill in report["kills"]]
    waits = {
        name: [kill["seconds_to_end"] for kill in kills if kill["signal"] == name]
        for name in ("SIGKILL", "SIGTERM")
    }
    return {
        "runs": len(reports),
        "kills": {name: len(of) for name, of in waits.items()},
        "stages_finished_at_the_kill": {
            str(count): sum(kill["finished_stages"] == count for kill in kills)
            for count in sorted({kill["finished_stages"] for kill in kills})
        },
        "sigterm_status": sorted({k["status"] for k in kills if k["signal"] == "SIGTERM"}),
        "sigterm_seconds": {
            "median": float(np.median(waits["SIGTERM"] or [0])),
            "largest": max(waits["SIGTERM"], default=0),
        },
        "runs_that_ended": sum(report["status"] == 0 for report in reports),
        "runs_that_differ": sum(bool(report["different"]) for report in reports),
        "tracebacks": sum(report["tracebacks"] for report in reports),
        "different_files": sorted({name for report in reports for name in report["different"]}),
    }


def table(sessions: list[dict]) -> str:
    """Returns the counts of each session and in total, as a Markdown table."""

    def ends(found):
        return ", ".join(f"{n} at {at}" for at, n in found["stages_finished_at_the_kill"].items())

    def waits(found):
        seconds = found["sigterm_seconds"]
        return f"{seconds['median']:.1f}, {seconds['largest']:.1f}"

    rows = {
        "kills": [sum(found["kills"].values()) for found in sessions],
        "of these SIGKILL": [found["kills"]["SIGKILL"] for found in sessions],
        "of these SIGTERM": [found["kills"]["SIGTERM"] for found in sessions],
        "runs": [found["runs"] for found in sessions],
        "runs that ended": [found["runs_that_ended"] for found in sessions],
        "runs whose weights, history or results differ": [
            found["runs_that_differ"] for found in sessions
        ],
        "tracebacks": [found["tracebacks"] for found in sessions],
    }
    lines = [
        "| | " + " | ".join([found["began"] for found in sessions]) + " | total |",
        "| --- |" + " --- |" * (len(sessions) + 1),
        *(
            f"| {name} | {' | '.join(map(str, counts))} | {sum(counts)} |"
            for name, counts in rows.items()
        ),
    ]
    for name, of in (
        ("kills by number of finished stages", ends),
        ("seconds from SIGTERM to the end, median and largest", waits),
    ):
        lines.append(f"| {name} | {' | '.join(map(of, sessions))} | |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
