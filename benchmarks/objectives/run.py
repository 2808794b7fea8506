"""The shoot-out of the objectives, and the effect of memory, on the packaged images.

Command: python benchmarks/objectives/run.py [--seeds 0 1 2] [--jobs 2] [-- --FLAG=VALUE ...]

1. Tuning: each objective with each of its four settings in `SETTINGS`, pretrained on the first 80%
   of the training images (one seed, not one of the results'); the setting with the best linear
   evaluation on the other 20% is kept.
2. Results: for each seed S (of weights, data order and label subset) each objective at its setting,
   pretrained on all training images; then linear evaluation with all labels and fine-tuning with 1%
   of them, from the encoder's output, on the whole test set.
3. Memory: NT-Xent at its setting with and without a memory, at two batch sizes, evaluated likewise.

Encoder, views, optimizer and epochs are those of the recipes `flags/demo`, the same for all.
Rerun the same command to resume. Flags after `--` change every pretraining, such as
--train_steps=2 to try it. Writes results.json, results.md and figures to OUT after each run.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import itertools
import json
import pathlib
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from simclrv2_tf import report
from simclrv2_tf.config import Config, ConfigError
from simclrv2_tf.experiments.directory import RunError
from simclrv2_tf.files import to_json, write_text

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import parallel_runs  # noqa: E402

TUNING_SEED = 100
RATES = ("0.002", "0.004")
# The hybrid's term is a sum over dimensions where VICReg's is a mean: a student's weight of 1, and
# one over the 512 dimensions.
SETTINGS = {
    name: [
        (f"--learning_rate={rate}", f"--{weight}={value}")
        for rate, value in itertools.product(RATES, values)
    ]
    for name, weight, values in (
        ("nt_xent", "temperature", ("0.2", "0.5")),
        ("vicreg", "vicreg_covariance", ("1", "4")),
        ("tico", "tico_rho", ("8", "20")),
        ("vicreg_tico", "vicreg_covariance", ("1", "0.002")),
        ("vicreg_tico_no_diagonal", "vicreg_covariance", ("1", "0.002")),
        ("barlow_twins", "barlow_off_diagonal", ("0.005", "0.02")),
    )
}
RECIPES = {
    "nt_xent": ("--flagfile=demo/default",),
    "vicreg": ("--flagfile=demo/vicreg",),
    "tico": ("--flagfile=demo/tico",),
    "vicreg_tico": ("--flagfile=demo/vicreg_tico",),
    "vicreg_tico_no_diagonal": ("--flagfile=demo/vicreg_tico", "--hybrid_diagonal=False"),
    "barlow_twins": ("--flagfile=demo/barlow_twins",),
}
NAMES = {
    "random": "no pretraining",
    "nt_xent": "NT-Xent",
    "vicreg": "VICReg",
    "tico": "TiCo",
    "vicreg_tico": "VICReg + TiCo",
    "vicreg_tico_no_diagonal": "VICReg + TiCo, no diagonal",
    "barlow_twins": "Barlow Twins",
    "batch_64": "NT-Xent, batch 64",
    "batch_64_memory": "NT-Xent, batch 64, memory",
    "batch_256": "NT-Xent, batch 256",
    "batch_256_memory": "NT-Xent, batch 256, memory",
}
# The momentum network's decay suits some hundred steps, as the paper's 0.999 does some 100,000.
_MEMORY = ("--memory_size=4096", "--ema_decay=0.99")
MEMORY = {
    "batch_64": ("--train_batch_size=64",),
    "batch_64_memory": ("--train_batch_size=64", *_MEMORY),
    "batch_256_memory": _MEMORY,
}
# The options of the demo's own stages.
EVALUATIONS = {
    "linear_eval": (
        "--train_mode=linear_eval",
        "--learning_rate=0.03",
        "--train_epochs=6",
        "--weight_decay=0",
        "--min_crop_area=0.7",
        "--zero_init_logits_layer=True",
    ),
    "fine_tuned": (
        "--train_mode=finetune",
        "--label_fraction=0.01",
        "--ft_proj_selector=0",
        "--learning_rate=0.008",
        "--train_batch_size=64",
        "--train_epochs=100",
        "--warmup_epochs=0",
        "--weight_decay=0",
        "--min_crop_area=0.7",
    ),
}
MEASURES = ("linear_eval", "fine_tuned")
HEALTH = ("representation_rank", "embedding_rank", "representation_spread", "embedding_spread")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is left and writes the results; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    path = {"type": pathlib.Path, "metavar": "FOLDER"}
    work = pathlib.Path("runs/objectives")
    jobs_help = parallel_runs.JOBS_HELP.format(what="runs", log="a file beside the run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help=jobs_help)
    parser.add_argument("--work", default=work, help="the runs (default: %(default)s)", **path)
    parser.add_argument("--out", default=HERE, help="results", **path)
    parser.add_argument("flags", nargs="*", metavar="-- --FLAG=VALUE", help="of each pretraining")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        study(args)
    except (ConfigError, RunError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"A run stopped: {shlex.join(error.cmd)}", file=sys.stderr)
        print("Its log says why. Rerun the same command to resume.", file=sys.stderr)
        return error.returncode
    except KeyboardInterrupt:
        return 130
    return 0


def study(args: argparse.Namespace) -> None:
    """Everything, in order; what was done before is not done again."""
    parallel_runs.check_jobs(args.jobs)
    if TUNING_SEED in args.seeds:
        raise ConfigError([f"`seeds` must not have the tuning's. Received: seeds={args.seeds}"])
    tuning = {
        (name, number): commands(
            args.work / "tuning" / name / str(number),
            [*RECIPES[name], *setting, *args.flags],
            TUNING_SEED,
            ["linear_eval"],
            ["--train_split=train[:80%]", "--eval_split=train[80%:]"],
        )
        for name, settings in SETTINGS.items()
        for number, setting in enumerate(settings)
    }
    check(tuning)
    with parallel_runs.lock(args.work) as lock:
        run_all(tuning, lock, args.jobs)
        tuned = {key: read(args.work / "tuning" / key[0] / str(key[1])) for key in tuning}
        kept = choose(tuned)
        final = result_commands(args, kept)
        check(final)
        for _ in run_all(final, lock, args.jobs, each=True):
            rows = [
                {"arm": arm, "seed": seed, **read(folder(args.work, arm, seed))}
                for arm, seed in final
                if all(finished(flags) for flags in final[arm, seed])
            ]
            write_results(results(args, tuned, kept, rows), args.out)


# --- Runs ------------------------------------------------------------------------------------


def folder(work: pathlib.Path, arm: str, seed: int) -> pathlib.Path:
    """Where an arm of the results is."""
    return work / "results" / arm / f"seed_{seed}"


def result_commands(args, kept: Mapping[str, int]) -> dict[tuple[str, int], list[list[str]]]:
    """The runs of each arm and seed, in order, at the settings kept."""
    chosen = {name: [*RECIPES[name], *SETTINGS[name][number]] for name, number in kept.items()}
    arms = {"random": None, **chosen}
    arms |= {name: [*chosen["nt_xent"], *flags] for name, flags in MEMORY.items()}
    return {
        (arm, seed): commands(
            folder(args.work, arm, seed),
            None if flags is None else [*flags, *args.flags],
            seed,
            list(EVALUATIONS),
        )
        for seed in args.seeds
        for arm, flags in arms.items()
    }


def commands(
    root: pathlib.Path,
    pretraining: Sequence[str] | None,
    seed: int,
    evaluations: Sequence[str],
    data: Sequence[str] = (),
) -> list[list[str]]:
    """Flags of `simclrv2_tf.run` for one pretraining, or None, and evaluations of its encoder."""
    common = [
        "--mode=train_then_eval",
        "--precision=float32",
        f"--seed={seed}",
        f"--label_seed={seed}",
        *data,
    ]
    weights = root / "pretrain"
    found = []
    if pretraining is not None:
        found.append([*pretraining, *common, "--train_mode=pretrain", f"--model_dir={weights}"])
    for name in evaluations:
        flags = ["--flagfile=demo/default", *common, *EVALUATIONS[name]]
        flags += [f"--model_dir={root / name}"]
        found.append(flags + [f"--checkpoint={weights}"] * (pretraining is not None))
    return found


def check(runs: Mapping[tuple, Sequence[Sequence[str]]]) -> None:
    """Raises `ConfigError` for wrong flags, before any run begins."""
    for flags in itertools.chain.from_iterable(runs.values()):
        Config.from_argv(["", *flags])


def finished(flags: Sequence[str]) -> bool:
    """Whether the run of these very flags has its result."""
    config = Config.from_argv(["", *flags])
    root = pathlib.Path(config.model_dir)
    return (root / "result.json").exists() and (
        root / "config.json"
    ).read_text() == config.to_json()


def run_all(runs: Mapping[tuple, Sequence[Sequence[str]]], lock, jobs: int, each: bool = False):
    """Runs what is not finished; with `each`, a generator that yields after each item."""

    def run(item):
        for flags in runs[item]:
            if finished(flags):
                continue
            root = pathlib.Path(Config.from_argv(["", *flags]).model_dir)
            print(f"{root} ...", flush=True)
            root.parent.mkdir(parents=True, exist_ok=True)
            with root.with_suffix(".log").open("a") as log:
                parallel_runs.execute(flags, lock, log)

    def ended():
        with contextlib.closing(parallel_runs.in_parallel(run, runs, jobs)) as items:
            yield from items

    return ended() if each else list(ended())


# --- Gathering -------------------------------------------------------------------------------


def read(root: pathlib.Path) -> dict:
    """What the runs below `root` measured: top-1 by evaluation, health at the end, alarms."""
    found = {
        name: json.loads((root / name / "result.json").read_text())["label_top_1_accuracy"]
        for name in EVALUATIONS
        if (root / name / "result.json").exists()
    }
    if (root / "pretrain").exists():
        with (root / "pretrain" / "history.csv").open() as file:
            epochs = list(csv.DictReader(file))
        found |= {name: float(epochs[-1][name]) for name in HEALTH}
        found["least"] = {name: min(float(epoch[name]) for epoch in epochs) for name in HEALTH}
        found["alarms"] = (root / "pretrain.log").read_text().count("Collapse at step")
        found["seconds"] = round(sum(float(epoch["seconds"]) for epoch in epochs))
    return found


def choose(tuned: Mapping[tuple[str, int], Mapping]) -> dict[str, int]:
    """The best setting's number by objective; of equal ones the first."""
    return {
        name: max(range(len(settings)), key=lambda n: (tuned[name, n]["linear_eval"], -n))
        for name, settings in SETTINGS.items()
    }


def means(rows: Sequence[Mapping]) -> list[dict]:
    """One row for each arm: each measure's mean, sample deviation and seeds."""
    found = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        group = [row for row in rows if row["arm"] == arm]
        mean = {"arm": arm, "seeds": [row["seed"] for row in group]}
        for measure in (*MEASURES, *HEALTH, "seconds"):
            if measure in group[0]:
                mean |= parallel_runs.mean_and_std(measure, [row[measure] for row in group])
        found.append(mean)
    return found


def differences(rows: Sequence[Mapping], pairs: Sequence[tuple[str, str]]) -> list[dict]:
    """Top-1 of one arm less that of another with the same seed, for each of `MEASURES`."""
    by_key = {(row["arm"], row["seed"]): row for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    found = []
    for measure, (arm, against) in itertools.product(MEASURES, pairs):
        both = [s for s in seeds if (arm, s) in by_key and (against, s) in by_key]
        values = [by_key[arm, s][measure] - by_key[against, s][measure] for s in both]
        if values:
            row = {"measure": measure, "arm": arm, "against": against, "by_seed": values}
            found.append({**row, **parallel_runs.mean_and_std("top1", values)})
    return found


def results(args, tuned, kept, rows) -> dict:
    """What `results.json` holds."""
    command = ["python", "benchmarks/objectives/run.py", "--seeds", *map(str, args.seeds)]
    command += ["--jobs", str(args.jobs)] if args.jobs > 1 else []
    # Without a memory, a batch of 256 is the shoot-out's own run.
    memory = [row | {"arm": "batch_256"} for row in rows if row["arm"] == "nt_xent"]
    memory += [row for row in rows if row["arm"] in MEMORY]
    objectives = [row for row in rows if row["arm"] not in MEMORY]
    hybrids = ("vicreg_tico", "vicreg_tico_no_diagonal")
    pairs = [*itertools.product(hybrids, ("vicreg", "tico")), hybrids[::-1]]
    return {
        "command": shlex.join([*command, *["--"][: len(args.flags)], *args.flags]),
        **parallel_runs.machine(),
        "jobs": args.jobs,
        "tuning": [
            {
                "arm": name,
                "setting": shlex.join(SETTINGS[name][number]),
                "kept": kept[name] == number,
                **measured,
            }
            for (name, number), measured in tuned.items()
        ],
        "objectives": means(objectives),
        "objective_differences": differences(objectives, pairs),
        "memory": means(memory),
        "memory_differences": differences(
            memory, [(f"batch_{size}_memory", f"batch_{size}") for size in (64, 256)]
        ),
        "per_seed": list(rows),
    }


# --- Writing ---------------------------------------------------------------------------------


def markdown(found: Mapping) -> str:
    """The text of `results.md`."""
    cpu, versions = found["cpu"], found["versions"]
    return (
        "\n\n".join(
            [
                "# Objectives and memory on the packaged images",
                f"`{found['command']}`\n\nMean ± sample standard deviation over seeds; top-1 in "
                "percent on the whole test set. Linear: all labels; 1%: fine-tuned with 1% of "
                "them. Ranks and spreads are of the last epoch, on training views. "
                f"{cpu['cores']} cores of {cpu['model']}, runs at once: {found['jobs']}, with "
                f"TensorFlow {versions['tensorflow']} and Keras {versions['keras']}.",
                table(found["objectives"]),
                difference_table(found["objective_differences"]),
                "## Memory",
                table(found["memory"]),
                difference_table(found["memory_differences"]),
                "## Tuning",
                report.table(
                    ["objective", "setting", "linear (%)", "kept"],
                    [
                        (
                            NAMES[row["arm"]],
                            f"`{row['setting']}`",
                            f"{100 * row['linear_eval']:.2f}",
                            "yes" if row["kept"] else "",
                        )
                        for row in found["tuning"]
                    ],
                ),
            ]
        )
        + "\n"
    )


def table(rows: Sequence[Mapping]) -> str:
    """A line for each arm."""

    def number(row, name):
        return f"{row[name]:.3g}" if name in row else "-"

    return report.table(
        ["", "linear (%)", "1% (%)", *(name.replace("_", " ") for name in HEALTH), "seeds"],
        [
            (
                NAMES[row["arm"]],
                *(parallel_runs.percent(row, measure) for measure in MEASURES),
                *(number(row, name) for name in HEALTH),
                len(row["seeds"]),
            )
            for row in rows
        ],
    )


def difference_table(rows: Sequence[Mapping]) -> str:
    """Differences in points, paired by seed."""
    shown = {"linear_eval": "linear", "fine_tuned": "1%"}
    return report.table(
        ["", "difference in points", "mean", "by seed"],
        [
            (
                shown[row["measure"]],
                f"{NAMES[row['arm']]} - {NAMES[row['against']]}",
                parallel_runs.percent(row, "top1", "+"),
                ", ".join(f"{100 * value:+.2f}" for value in row["by_seed"]),
            )
            for row in rows
        ],
    )


def figure(rows: Sequence[Mapping], per_seed: Sequence[Mapping]) -> Figure:
    """Linear and 1% top-1: the mean of each arm with its deviation, and a tick for every seed.

    Without the arm that is not pretrained, which is far from all others in linear evaluation.
    """
    rows = [row for row in rows if row["arm"] != "random"]
    drawn = Figure(figsize=(9, 0.45 * len(rows) + 1.2), layout="constrained")
    titles = ("Linear evaluation, all labels", "Fine-tuned, 1% of the labels")
    axes = drawn.subplots(1, 2, sharey=True)
    for ax, measure, title in zip(axes, MEASURES, titles, strict=True):
        for place, row in enumerate(rows):
            seeds = [100 * r[measure] for r in per_seed if r["arm"] == row["arm"]]
            ax.errorbar(
                100 * row[measure],
                place,
                xerr=100 * (row[f"{measure}_std"] or 0),
                fmt="o",
                color="C0",
                capsize=3,
            )
            ax.plot(seeds, [place] * len(seeds), "|", color="0.4", markersize=9)
        ax.set_title(title)
        ax.set_xlabel("top-1 (%)")
        ax.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(rows)), [NAMES[row["arm"]] for row in rows])
    axes[0].invert_yaxis()
    return drawn


def write_results(found: Mapping, out: pathlib.Path) -> None:
    """Writes `results.json`, `results.md`, and the figures `objectives` and `memory`."""
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "results.json", to_json(found))
    write_text(out / "results.md", markdown(found))
    renamed = [row | {"arm": "batch_256"} for row in found["per_seed"] if row["arm"] == "nt_xent"]
    for name in ("objectives", "memory"):
        if found[name]:
            drawn = figure(found[name], [*found["per_seed"], *renamed])
            for extension in ("png", "svg"):
                report.save_figure(drawn, out / f"{name}.{extension}")


if __name__ == "__main__":
    sys.exit(main())
