"""Takes a folder of one's own images through all stages, by the short commands of the guide.

Command: python benchmarks/your_images/run.py own_images runs   (see build.py for own_images)

For each seed: pretraining on photos/, fine-tuning on few/ and distillation, supervised training on
few/ as the baseline, and the evaluation of each on held_out/. Writes results.json beside it.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

RESULTS = pathlib.Path(__file__).with_name("results.json")
STAGES = ("supervised", "finetune", "distill")


def commands(images: pathlib.Path, runs: pathlib.Path, seed: int) -> dict[str, list[str]]:
    """The command lines of one seed, by stage, without the program's name."""
    common = ["--preset=quick", f"--seed={seed}"]
    few = f"--labels={images / 'few'}"

    def output(stage):
        return f"--output={runs / f'{stage}-{seed}'}"

    return {
        "pretrain": ["pretrain", str(images / "photos"), output("pretrain"), *common],
        "finetune": ["finetune", str(runs / f"pretrain-{seed}"), few, output("finetune"), *common],
        "distill": [
            "distill",
            str(runs / f"finetune-{seed}"),
            f"--images={images / 'photos'}",
            output("distill"),
            *common,
        ],
        "supervised": ["supervised", str(images / "few"), output("supervised"), *common],
    }


def short_command(*arguments: str) -> float:
    """Runs a short command; returns its seconds."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "simclrv2_tf", *arguments], check=True)
    return time.monotonic() - began


def evaluated(run: pathlib.Path, images: pathlib.Path) -> dict:
    """The accuracy of a run's classifier on the held-out images, with its interval."""
    output = run / "held_out"
    data = f"--dataset=folder:{images / 'held_out'}"
    short_command("evaluate", str(run), data, f"--output={output}", "--overwrite")
    return json.loads((output / "result.json").read_text())


def main() -> None:
    """Runs all seeds, prints a table and writes results.json after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=pathlib.Path)
    parser.add_argument("runs", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    found: dict = {"accuracy": {stage: [] for stage in STAGES}, "seconds": {}}
    for seed in range(arguments.seeds):
        for stage, command in commands(arguments.images, arguments.runs, seed).items():
            found["seconds"].setdefault(stage, []).append(round(short_command(*command)))
        for stage in STAGES:
            result = evaluated(arguments.runs / f"{stage}-{seed}", arguments.images)
            found["accuracy"][stage].append(result["label_top_1_accuracy"])
            found["interval"] = [result["label_top_1_low"], result["label_top_1_high"]]
            found["images"] = result["images"]
        found["processor"] = f"{platform.machine()}, {os.cpu_count()} cores"
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")
        print(table(found), flush=True)


def table(found: dict) -> str:
    """Means and deviations over seeds, as a table in Markdown."""
    lines = [
        "| stage | top-1, mean | deviation | each seed | seconds |",
        "| --- | --- | --- | --- | --- |",
    ]
    for stage, accuracies in found["accuracy"].items():
        deviation = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
        each = ", ".join(f"{100 * accuracy:.1f}" for accuracy in accuracies)
        seconds = statistics.median(found["seconds"][stage])
        mean = 100 * statistics.mean(accuracies)
        lines.append(f"| {stage} | {mean:.1f} | {100 * deviation:.1f} | {each} | {seconds:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
