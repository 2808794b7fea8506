"""Takes a folder of images through all stages, with the guide's short commands.

Command: python benchmarks/your_images/run.py own_images runs   (see build.py for own_images)

For each seed: pretraining on photos/, fine-tuning on few/ and distillation, supervised training on
few/ as the baseline, and the evaluation of each on held_out/. Writes results.json to this folder.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

RESULTS = pathlib.Path(__file__).with_name("results.json")
STAGES = ("supervised", "finetune", "distill")


def commands(images: pathlib.Path, runs: pathlib.Path, seed: int) -> dict[str, list[str]]:
    """Returns the command lines of one seed, by stage, without the program's name."""
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
    """Returns the accuracy of a run's classifier on the held-out images, with its interval."""
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
    parser.add_argument("--processor", default="", help="name of the processor, for the record")
    arguments = parser.parse_args()
    found: dict = {name: {stage: [] for stage in STAGES} for name in ("accuracy", "interval")}
    found |= {"seconds": {}, "processor": arguments.processor}
    for seed in range(arguments.seeds):
        for stage, command in commands(arguments.images, arguments.runs, seed).items():
            found["seconds"].setdefault(stage, []).append(round(short_command(*command)))
        for stage in STAGES:
            result = evaluated(arguments.runs / f"{stage}-{seed}", arguments.images)
            found["accuracy"][stage].append(result["label_top_1_accuracy"])
            bounds = [result["label_top_1_low"], result["label_top_1_high"]]
            found["interval"][stage].append(bounds)
            found["images"] = result["images"]
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")
        print(table(found), flush=True)


def table(found: dict) -> str:
    """Returns top-1 in percent, with 95% intervals of each seed, as a Markdown table."""
    lines = [
        "| stage | mean | deviation | each seed, with its interval | seconds |",
        "| --- | --- | --- | --- | --- |",
    ]
    for stage, accuracies in found["accuracy"].items():
        percent = [100 * accuracy for accuracy in accuracies]
        deviation = f"{statistics.stdev(percent):.1f}" if len(percent) > 1 else ""
        each = ", ".join(
            f"{value:.1f} ({100 * low:.0f} to {100 * high:.0f})"
            for value, (low, high) in zip(percent, found["interval"][stage], strict=True)
        )
        seconds = statistics.median(found["seconds"][stage])
        mean = statistics.mean(percent)
        lines.append(f"| {stage} | {mean:.1f} | {deviation} | {each} | {seconds:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
