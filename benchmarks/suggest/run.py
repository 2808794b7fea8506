"""Compares 100 labels on suggested images with 100 labels on random ones, over seeds.

Command: python benchmarks/suggest/run.py runs/suggest   (needs the extra `suggest`)

For each seed, pretrains with the demo's recipe on the 10,000 packaged images, without labels. Then
chooses 100 of these images in three ways, and only uses their labels: by `simclrv2-tf suggest`, at
random with ten per class, and at random. Each choice is evaluated on the 2,000 test images by
fine-tuning with the demo's settings for 1% of the labels, and by logistic regression on the
pretrained representation. Writes results.json to this folder; skips finished stages.
"""

import argparse
import csv
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys

import numpy as np

SEEDS = (0, 1, 2, 3, 4)
LABELS = 100
SUGGESTED, BALANCED, UNIFORM = "suggested", "random, balanced", "random"
ARMS = (SUGGESTED, BALANCED, UNIFORM)
MEASURES = ("fine-tuning", "logistic regression")
RESULTS = pathlib.Path(__file__).with_name("results.json")

# The demo's settings at the time of the record; fine-tuning takes the network from the checkpoint.
PRETRAIN = (
    "--flagfile=demo/default",
    "--mode=train_then_eval",
    "--train_mode=pretrain",
    "--learning_rate=0.002",
    "--train_batch_size=256",
    "--train_epochs=12",
    "--temperature=0.2",
    "--min_crop_area=0.25",
    "--eval_epochs=0",
)
FINETUNE = (
    "--mode=train_then_eval",
    "--train_mode=finetune",
    "--image_size=28",
    "--ft_proj_selector=1",
    "--zero_init_logits_layer=True",
    "--optimizer=adam",
    "--learning_rate=0.008",
    "--learning_rate_scaling=linear",
    "--warmup_epochs=0",
    "--weight_decay=0",
    "--train_batch_size=64",
    "--train_epochs=100",
    "--min_crop_area=0.7",
    "--use_blur=False",
    "--color_jitter_strength=0.5",
    "--export_formats=keras",
)


def main() -> None:
    """Runs unfinished stages, and records the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=pathlib.Path, help="folder of the images and runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    arguments = parser.parse_args()
    work = arguments.work
    labels = write_images(work)
    seeds = [measured(work, labels, seed) for seed in arguments.seeds]
    found = {"labels": LABELS, "processor": processor(), "seeds": seeds}
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    print(table(found))
    print(differences(found))
    print(f"{cpu_minutes(found):.0f} minutes of CPU time")


def write_images(work: pathlib.Path) -> dict[str, int]:
    """Writes the packaged images as PNG files; returns the label of each training image.

    `pool` holds the training images without classes, `test` one folder per class.
    """
    from PIL import Image

    from simclrv2_tf import datasets

    data = datasets.open_dataset("fashion_mnist_small", channels=1)
    labels = {}
    for split in ("train", "test"):
        whole = (work / f"{split}.txt").exists()
        ids, classes = data.split(split).labels()
        names = [f"{number:05d}.png" for number in range(len(ids))]
        folders = [work / "pool" if split == "train" else work / "test" / str(c) for c in classes]
        if split == "train":
            labels = {name: int(label) for name, label in zip(names, classes, strict=True)}
        if whole:
            continue
        for folder in {*folders}:
            folder.mkdir(parents=True, exist_ok=True)
        examples = data.split(split).examples()
        for example, folder, name in zip(examples, folders, names, strict=True):
            Image.fromarray(example["image"].numpy()[..., 0]).save(folder / name)
        (work / f"{split}.txt").write_text("written\n")
    return labels


def measured(work: pathlib.Path, labels: dict[str, int], seed: int) -> dict:
    """Returns the accuracies of one seed, by arm and measure."""
    pretrained = work / f"pretrain-{seed}"
    ran(
        pretrained,
        "pretrain",
        *("simclrv2_tf.run", *PRETRAIN, f"--seed={seed}", f"--model_dir={pretrained}"),
    )
    arms = {}
    features = represented(work, pretrained, seed)
    for arm in ARMS:
        chosen = choice(work, pretrained, labels, arm, seed)
        run = work / f"{arm.replace(', ', '-')}-{seed}"
        images = write_chosen(work, run.with_name(run.name + "-images"), chosen, labels)
        command = (*FINETUNE, f"--checkpoint={pretrained}", f"--dataset=folder:{images}")
        ran(run, "finetune", "simclrv2_tf.run", *command, f"--seed={seed}", f"--model_dir={run}")
        result = json.loads((run / "result.json").read_text())
        arms[arm] = {
            MEASURES[0]: result["label_top_1_accuracy"],
            MEASURES[1]: logistic(features, chosen, labels),
            "images_of_each_class": np.bincount([labels[name] for name in chosen]).tolist(),
        }
    seconds = {path.stem: float(path.read_text()) for path in work.glob(f"*-{seed}.seconds")}
    return {"seed": seed, "arms": arms, "cpu_seconds": seconds}


def ran(run: pathlib.Path, title: str, *command: str) -> None:
    """Runs a module of the package, unless it has finished; records the CPU's seconds."""
    record = run.with_name(run.name + ".seconds")
    if record.exists():
        return
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{title}: {run}", flush=True)
    subprocess.run([sys.executable, "-m", *command], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    record.write_text(f"{seconds:.1f}\n")


def choice(
    work: pathlib.Path, pretrained: pathlib.Path, labels: dict[str, int], arm: str, seed: int
) -> list[str]:
    """Returns the images that an arm labels."""
    from simclrv2_tf.datasets import labels as label_subset

    names = list(labels)
    if arm == BALANCED:
        classes = [str(label) for label in range(10)]
        per_class = LABELS // len(classes)
        values = list(labels.values())
        return list(
            label_subset.draw(names, values, classes, labels_per_class=per_class, seed=seed)
        )
    if arm == UNIFORM:
        return np.random.default_rng(seed).choice(names, LABELS, replace=False).tolist()
    table = work / f"suggest-{seed}.csv"
    ran(
        work / f"suggest-{seed}",
        "suggest",
        *("simclrv2_tf", "suggest", str(pretrained), str(work / "pool"), f"--count={LABELS}"),
        *(f"--seed={seed}", f"--output={table}", "--overwrite"),
    )
    with table.open() as file:
        return [row["file"] for row in csv.DictReader(file)]


def write_chosen(
    work: pathlib.Path, folder: pathlib.Path, chosen: list[str], labels: dict[str, int]
) -> pathlib.Path:
    """Links the chosen images, one folder per class, and the test images into a folder."""
    if folder.exists():
        shutil.rmtree(folder)
    for name in chosen:
        target = folder / "train" / str(labels[name]) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(work / "pool" / name, target)
    for path in (work / "test").rglob("*.png"):
        target = folder / path.relative_to(work)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)
    return folder


def represented(work: pathlib.Path, pretrained: pathlib.Path, seed: int) -> dict[str, np.ndarray]:
    """Returns representations of all images by path, standardized by the training images."""
    found = {}
    for images in ("pool", "test"):
        file = work / f"{images}-{seed}.npy"
        ran(
            file.with_suffix(""),
            "predict",
            *("simclrv2_tf.predict", f"--model={pretrained}", f"--images={work / images}"),
            *(f"--embeddings={file}", "--overwrite"),
        )
        found[images] = np.load(file), file.with_suffix(".txt").read_text().splitlines()
    mean, deviation = found["pool"][0].mean(0), found["pool"][0].std(0) + 1e-6
    return {
        name: (row - mean) / deviation
        for rows, names in found.values()
        for name, row in zip(names, rows, strict=True)
    }


def logistic(features: dict[str, np.ndarray], chosen: list[str], labels: dict[str, int]) -> float:
    """Returns the test accuracy of logistic regression (scikit-learn's defaults)."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(max_iter=1_000)
    fitted.fit([features[name] for name in chosen], [labels[name] for name in chosen])
    test = [name for name in features if "/" in name]
    return float(
        fitted.score([features[n] for n in test], [int(n.partition("/")[0]) for n in test])
    )


def table(found: dict) -> str:
    """Returns accuracies in percent, one row per arm."""
    from simclrv2_tf.tables import table as text_table

    rows = [
        (arm, measure, f"{statistics.mean(values):.1f}", *(f"{value:.1f}" for value in values))
        for measure in MEASURES
        for arm in ARMS
        for values in [[100 * seed["arms"][arm][measure] for seed in found["seeds"]]]
    ]
    seeds = [f"seed {seed['seed']}" for seed in found["seeds"]]
    return text_table(["labels on", "by", "mean", *seeds], rows)


def differences(found: dict) -> str:
    """Returns the gain of suggestions over random images, in points, with 95% intervals."""
    from simclrv2_tf.tables import table as text_table

    rows = []
    for measure in MEASURES:
        for arm in (BALANCED, UNIFORM):
            mean, low, high, better = gain(found, measure, arm)
            interval = f"{mean:+.1f} ({low:+.1f}, {high:+.1f})"
            rows.append((arm, measure, interval, f"{better} of {len(found['seeds'])}"))
    return text_table(["suggested over", "by", "points (95% interval)", "better"], rows)


def gain(found: dict, measure: str, arm: str) -> tuple[float, float, float, int]:
    """Returns the mean paired difference in points, its 95% t interval, and seeds with a gain."""
    from scipy import stats

    gains = [
        100 * (seed["arms"][SUGGESTED][measure] - seed["arms"][arm][measure])
        for seed in found["seeds"]
    ]
    interval = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    better = sum(value > 0 for value in gains)
    return statistics.mean(gains), float(interval.low), float(interval.high), better


def cpu_minutes(found: dict) -> float:
    """Returns the minutes of CPU time of all commands."""
    return sum(sum(seed["cpu_seconds"].values()) for seed in found["seeds"]) / 60


def processor() -> str:
    """Returns the processor's name and number of cores."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{name}, {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
