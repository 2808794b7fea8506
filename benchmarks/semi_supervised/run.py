"""The recorded semi-supervised study: SimCLRv2's three stages on full Fashion-MNIST, over seeds.

Command: python benchmarks/semi_supervised/run.py [--seeds 0 1 2] [--jobs 2] [-- --FLAG=VALUE ...]

For each seed S (of weights, data order and label subset): the run of the recipe `flags` beside this
script, in WORK/seed_S, then each of its fine-tunings once more from another layer of the projection
head: from layer 0, or from layer 1 where the recipe's own is 0. Rerun the same command to resume.
Flags after `--` change the recipe, such as a held-out split to tune on:

    python benchmarks/semi_supervised/run.py --seeds 0 --work runs/tuning --out runs/tuning \\
        -- '--train_split=train[:50000]' '--eval_split=train[50000:]'

Writes results.json, results.md and figures to OUT after each seed.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from simclrv2_tf import report
from simclrv2_tf.config import Config, ConfigError
from simclrv2_tf.experiments import plan
from simclrv2_tf.experiments.directory import RunDirectory, RunError
from simclrv2_tf.files import to_json, write_text

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import parallel_runs  # noqa: E402

MEASURES = ("top1", "expected_calibration_error", "seconds")
# The teacher of the small student is the self-distilled network.
PAIRS = (
    ("fine_tuned", "supervised"),
    ("self_distilled", "fine_tuned"),
    ("small_student", "self_distilled"),
    ("linear_evaluation", "linear_evaluation_random_init"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is left of the study and writes its results; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    path = {"type": pathlib.Path, "metavar": "FOLDER"}
    source = HERE.parents[2] / "shared" / "data" / "fashion_mnist"
    work = pathlib.Path("runs/semi_supervised_study")
    jobs_help = parallel_runs.JOBS_HELP.format(what="seeds", log="WORK/seed_S.log")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help=jobs_help)
    parser.add_argument("--source", default=source, help="the four published IDX files", **path)
    parser.add_argument("--work", default=work, help="data and runs (default: %(default)s)", **path)
    parser.add_argument("--out", default=HERE, help="results", **path)
    parser.add_argument("flags", nargs="*", metavar="-- --FLAG=VALUE", help="changes to the recipe")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        study(args)
    except (ConfigError, RunError, FileNotFoundError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print("The run stopped. Rerun the same command to resume.", file=sys.stderr)
        return error.returncode
    except KeyboardInterrupt:
        return 130
    return 0


def study(args: argparse.Namespace) -> None:
    """Everything, in order; what was done before is not done again."""
    parallel_runs.check_jobs(args.jobs)
    commands = {seed: run_flags(seed, args.work, args.flags) for seed in args.seeds}
    configs = {seed: read_config(flags) for seed, flags in commands.items()}
    with parallel_runs.lock(args.work) as lock:
        prepare(args.source, args.work / "data")

        def run_seed(seed: int) -> None:
            print(f"\n=== Seed {seed} ===", flush=True)
            with contextlib.ExitStack() as stack:
                log = None
                if args.jobs > 1:
                    log = stack.enter_context((args.work / f"seed_{seed}.log").open("a"))
                parallel_runs.execute(commands[seed], lock, log)
                for stage in fine_tunings(configs[seed]):
                    parallel_runs.execute(head_layer_flags(stage.model_dir), lock, log)

        # Closed at once where the writing of results fails, too.
        with contextlib.closing(
            parallel_runs.in_parallel(run_seed, args.seeds, args.jobs)
        ) as ended:
            for _ in ended:
                finished = {s: gather(c) for s, c in configs.items() if is_finished(c)}
                rows = [{"seed": s, **row} for s, (rows, _) in finished.items() for row in rows]
                results = {
                    **provenance(list(finished), args.jobs, args.flags),
                    "seconds": sum(seconds for _, seconds in finished.values()),
                    **summary(rows),
                }
                figures = args.work / f"seed_{min(finished)}" / "figures"
                write_results(results, args.out, figures)


# --- Running ---------------------------------------------------------------------------------


def run_flags(seed: int, work: pathlib.Path, changes: Sequence[str]) -> list[str]:
    """Flags of `simclrv2_tf.run` for one seed."""
    return [
        f"--flagfile={HERE / 'flags'}",
        *changes,
        "--mode=train_then_eval",
        f"--seed={seed}",
        f"--label_seed={seed}",
        f"--data_dir={work / 'data'}",
        f"--model_dir={work / f'seed_{seed}'}",
    ]


def read_config(flags: Sequence[str]) -> Config:
    """The options of a run, checked before any begins.

    Raises:
        ConfigError: they are wrong, or ask for what this study does not gather.
        RunError: the run's folder holds a run with other options.
    """
    config = Config.from_argv(["", *flags])
    if config.train_mode != "semi_supervised" or config.labels_per_class or config.eval_name:
        raise ConfigError(
            [
                "`flags` must keep train_mode=semi_supervised, with label_fraction and without "
                f"eval_name. Received: train_mode={config.train_mode}, labels_per_class="
                f"{config.labels_per_class}, eval_name={config.eval_name}"
            ]
        )
    plan.plan_stages(config)
    RunDirectory(config).check()
    return config


def fine_tunings(config: Config) -> list[Config]:
    """The fine-tunings of a run that have another head layer to start from, in order."""
    stages = [stage.config for stage in plan.plan_stages(config) if stage.name == "fine_tuned"]
    return [stage for stage in stages if stage.num_head_layers]


def other_fine_tuning(stage: Config) -> tuple[int, pathlib.Path]:
    """The head layer that `stage` is compared with, and the folder of that fine-tuning."""
    layer = 0 if stage.ft_proj_selector else 1
    return layer, pathlib.Path(f"{stage.model_dir}_layer_{layer}")


def head_layer_flags(directory: str) -> list[str]:
    """Flags of `simclrv2_tf.run` that repeat a finished fine-tuning from the other head layer.

    Args:
        directory: The fine-tuning's folder. All its options, as run, are kept but two.
    """
    text = (pathlib.Path(directory) / "config.json").read_text()
    layer, folder = other_fine_tuning(Config.from_json(text))
    options = {**json.loads(text), "ft_proj_selector": layer, "model_dir": str(folder)}
    del options["stage_options"]  # has no flag, and no use in a single stage

    def shown(value):
        if isinstance(value, list):
            return ",".join(map(str, value))
        return "" if value is None else value

    return [f"--{name}={shown(value)}" for name, value in options.items()]


def prepare(source: pathlib.Path, data_dir: pathlib.Path) -> None:
    """Makes TensorFlow Datasets' `fashion_mnist` in `data_dir`, where it is not there yet.

    Raises:
        FileNotFoundError: `source` lacks one of the published files.
    """
    if (data_dir / "fashion_mnist" / "3.0.1" / "dataset_info.json").exists():
        return
    files = {
        split: [f"{prefix}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
        for split, prefix in (("train", "train"), ("test", "t10k"))
    }
    missing = [name for pair in files.values() for name in pair if not (source / name).exists()]
    if missing:
        raise FileNotFoundError(
            "`source` must hold the four published files of Fashion-MNIST. "
            f"Received: source={source}, without {', '.join(missing)}"
        )
    # Not at the top: `--help` and wrong flags are answered without waiting for TensorFlow.
    import tensorflow as tf
    import tensorflow_datasets as tfds

    from simclrv2_tf.datasets import open_dataset

    print("Preparing Fashion-MNIST, once: a minute or two.", flush=True)
    tfds.disable_progress_bar()
    splits = {}
    for split, names in files.items():
        images, labels = (read_idx(source / name) for name in names)
        examples = {"image": images[..., None], "label": labels.astype(np.int64)}
        splits[split] = tf.data.Dataset.from_tensor_slices(examples)
    image = tfds.features.Image(shape=(28, 28, 1))
    label = tfds.features.ClassLabel(names=list(open_dataset("fashion_mnist_small").class_names))
    tfds.dataset_builders.store_as_tfds_dataset(
        name="fashion_mnist",
        version="3.0.1",
        features=tfds.features.FeaturesDict({"image": image, "label": label}),
        split_datasets=splits,
        data_dir=str(data_dir),
    )


def read_idx(path: pathlib.Path) -> np.ndarray:
    """Reads a gzipped IDX file of bytes: two zeros, type 8, the rank, the shape, then the data.

    Raises:
        ValueError: it is another kind of file.
    """
    content = gzip.decompress(path.read_bytes())
    if content[:3] != b"\0\0\x08":
        raise ValueError(f"`path` must be an IDX file of bytes. Received: path={path}")
    rank = content[3]
    shape = np.frombuffer(content, ">u4", rank, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


# --- Gathering -------------------------------------------------------------------------------


def is_finished(config: Config) -> bool:
    """Whether a seed has all its results, by these very options."""
    root = pathlib.Path(config.model_dir)
    comparisons = [other_fine_tuning(stage)[1] / "result.json" for stage in fine_tunings(config)]
    return (
        all(path.exists() for path in (root / "results.json", *comparisons))
        and (root / "config.json").read_text() == config.to_json()
    )


def gather(config: Config) -> tuple[list[dict], int]:
    """The rows of a finished seed, and its seconds of training in all.

    Beside the run's own rows there is one of method "fine_tuned_layer_K" for each head layer K
    that fine-tuning started from, and where the run has linear evaluation, "linear_evaluation" and
    "linear_evaluation_random_init", which use all labels.
    """
    from simclrv2_tf.training import seconds_spent

    root = pathlib.Path(config.model_dir)
    rows = json.loads((root / "results.json").read_text())["rows"]
    fine_tuned = {row["label_fraction"]: row for row in rows if row["method"] == "fine_tuned"}
    for stage in fine_tunings(config):
        layer, folder = other_fine_tuning(stage)
        result = json.loads((folder / "result.json").read_text())
        own = fine_tuned[stage.label_fraction[0]]
        other = {
            "top1": result["label_top_1_accuracy"],
            "expected_calibration_error": result["expected_calibration_error"],
            "seconds": seconds_spent(folder / "history.csv"),
        }
        rows += [
            {**own, "method": f"fine_tuned_layer_{stage.ft_proj_selector}"},
            {**own, **other, "method": f"fine_tuned_layer_{layer}"},
        ]
    result = json.loads((root / "result.json").read_text())
    for method, key in (
        ("linear_evaluation", "label_top_1_accuracy"),
        ("linear_evaluation_random_init", "random_init_top_1_accuracy"),
    ):
        if "random_init_top_1_accuracy" in result:
            rows.append({"label_fraction": 1.0, "method": method, "top1": result[key]})
    return rows, sum(seconds_spent(path) for path in root.rglob("history.csv"))


def summary(rows: Sequence[Mapping]) -> dict:
    """The results over seeds.

    Args:
        rows: Those of `gather`, each with its `seed`.

    Returns:
        `rows`, `head_layer` and `linear_evaluation`: means as `mean_over_seeds` has them, of the
        four methods and of the two comparisons; `differences`; and the rows `per_seed`.
    """
    means = mean_over_seeds(rows)
    layers = sorted({r["method"] for r in rows if r["method"].startswith("fine_tuned_layer_")})
    by_layer = [(layer, "fine_tuned_layer_0") for layer in layers if layer[-2:] != "_0"]
    return {
        "rows": [row for row in means if row["method"] in plan.METHODS],
        "differences": differences(rows, [*PAIRS, *by_layer]),
        "head_layer": [row for row in means if row["method"] in layers],
        "linear_evaluation": [row for row in means if row["method"] in PAIRS[-1]],
        "per_seed": list(rows),
    }


def mean_over_seeds(rows: Sequence[Mapping]) -> list[dict]:
    """One row for each label fraction and method, in order of the fraction.

    Args:
        rows: `label_fraction`, `method`, `seed`, any of `MEASURES`, and what seeds have in common.

    Returns:
        Rows without `seed`, with `num_seeds`, each measure's mean in place of its value and its
        sample standard deviation (n - 1) as MEASURE_std, which is None for a single seed.

    Raises:
        ValueError: a seed is there twice, or seeds differ in what they should have in common.
    """
    groups: dict[tuple, list[Mapping]] = {}
    for row in rows:
        groups.setdefault((row["label_fraction"], row["method"]), []).append(row)
    means = []
    for group in groups.values():
        common = [{k: v for k, v in row.items() if k not in ("seed", *MEASURES)} for row in group]
        if len({row["seed"] for row in group}) < len(group) or common.count(common[0]) < len(group):
            raise ValueError(
                "`rows` must have each seed once, with the same labels and parameters. "
                f"Received: {group}"
            )
        mean = {**common[0], "num_seeds": len(group)}
        for measure in MEASURES:
            if measure in group[0]:
                mean |= parallel_runs.mean_and_std(measure, [row[measure] for row in group])
        means.append(mean)
    return sorted(means, key=lambda row: row["label_fraction"])


def differences(rows: Sequence[Mapping], pairs: Sequence[tuple[str, str]]) -> list[dict]:
    """Top-1 of one method less that of another in the same seed, so that the seed cancels.

    Args:
        rows: As for `mean_over_seeds`.
        pairs: Method and against which; a pair is left out where a fraction has not both.

    Returns:
        Rows of `label_fraction`, `method`, `against`, the differences `by_seed`, and their mean
        and sample standard deviation, `top1` and `top1_std`.
    """
    top1: dict[tuple, dict[int, float]] = {}
    for row in rows:
        top1.setdefault((row["label_fraction"], row["method"]), {})[row["seed"]] = row["top1"]
    found = []
    for fraction in sorted({fraction for fraction, _ in top1}):
        for method, against in pairs:
            ours, theirs = (top1.get((fraction, name), {}) for name in (method, against))
            by_seed = {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}
            if by_seed:
                names = {"label_fraction": fraction, "method": method, "against": against}
                statistic = parallel_runs.mean_and_std("top1", list(by_seed.values()))
                found.append({**names, **statistic, "by_seed": by_seed})
    return found


# --- Writing ---------------------------------------------------------------------------------


def provenance(seeds: Sequence[int], jobs: int, changes: Sequence[str]) -> dict:
    """What the results were made with."""
    command = ["python", "benchmarks/semi_supervised/run.py", "--seeds", *map(str, seeds)]
    command += ["--jobs", str(jobs)] if jobs > 1 else []
    return {
        "command": shlex.join([*command, *["--"][: len(changes)], *changes]),
        **parallel_runs.machine(),
        "seeds": list(seeds),
        "jobs": jobs,
    }


def markdown(results: Mapping) -> str:
    """The text of `results.md`."""
    cpu, versions, seeds = (results[key] for key in ("cpu", "versions", "seeds"))
    blocks = [
        "# Semi-supervised study on Fashion-MNIST",
        f"`{results['command']}`\n\nMean ± sample standard deviation over seeds "
        f"{', '.join(map(str, seeds))}; seconds are those of a method's own training. "
        f"{results['seconds'] / 3600:.1f} hours of training in all, on {cpu['cores']} cores of "
        f"{cpu['model']}, seeds at once: {results['jobs']}, with TensorFlow "
        f"{versions['tensorflow']} and Keras {versions['keras']}. "
        f"Figures of single runs (learning curves, reliability) are those of seed {min(seeds)}.",
        _table(results["rows"]),
        "## Differences in top-1, in points, paired by seed",
        report.table(
            ["label fraction", "difference", "mean", "by seed"],
            [
                (
                    report.percent(row["label_fraction"]),
                    f"{_name(row['method'])} - {_name(row['against'])}",
                    parallel_runs.percent(row, "top1", "+"),
                    ", ".join(f"{100 * value:+.2f}" for value in row["by_seed"].values()),
                )
                for row in results["differences"]
            ],
        ),
    ]
    if results["head_layer"]:
        blocks += ["## Fine-tuning by head layer", _table(results["head_layer"])]
    if results["linear_evaluation"]:
        blocks += ["## Linear evaluation", _table(results["linear_evaluation"])]
    return "\n\n".join(blocks) + "\n"


def _table(rows: Sequence[Mapping]) -> str:
    columns = {
        "label fraction": [report.percent(row["label_fraction"]) for row in rows],
        "labels": [row.get("num_labels") for row in rows],
        "method": [_name(row["method"]) for row in rows],
        "top-1 (%)": [parallel_runs.percent(row, "top1") for row in rows],
        "ECE (%)": [parallel_runs.percent(row, "expected_calibration_error") for row in rows],
        "parameters": [row.get("parameters") for row in rows],
        "seconds": [round(row["seconds"]) if "seconds" in row else None for row in rows],
    }
    # Linear evaluation has its accuracy alone.
    columns = {name: cells for name, cells in columns.items() if set(cells) != {None}}
    return report.table(list(columns), list(zip(*columns.values(), strict=True)))


def _name(method: str) -> str:
    if method in report.METHODS:
        return report.METHODS[method].name
    return method.replace("fine_tuned_", "fine-tuned, ").replace("_", " ")


def write_results(results: Mapping, out: pathlib.Path, figures: pathlib.Path) -> None:
    """Writes tables and figures to `out`; figures of a single run are copied from `figures`."""
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "results.json", to_json(results))
    text = markdown(results)
    write_text(out / "results.md", text)
    print(f"\n{text}", flush=True)
    accuracy = report.accuracy_figure(results["rows"])
    for extension in ("png", "svg"):
        report.save_figure(accuracy, out / f"accuracy.{extension}")
    for path in [*figures.glob("learning_curves.*"), *figures.glob("reliability_*")]:
        shutil.copyfile(path, out / path.name)


if __name__ == "__main__":
    sys.exit(main())
