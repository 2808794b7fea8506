"""Draws the figures of this folder, and prints their tables, from finished sweeps.

    python benchmarks/paper_figures/draw.py runs/paper_figures benchmarks/paper_figures/results

Copies each sweep's table (`NAME.csv`) to the figures' folder. Skips missing sweeps.
"""

import argparse
import pathlib
import shutil

import pandas as pd
from etils import epath
from matplotlib.figure import Figure

from simclrv2_tf.report.style import legend_below, save_figure, style_axis
from simclrv2_tf.sweep.statistics import differences, means, t_interval

TOP_1 = "label_top_1_accuracy"
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
BARS = "bars: 95% t interval over seeds"
WIDTHS = ([0.125, 0.1875, 0.25], ["1/8", "3/16", "1/4"])
LABELS = {"1pct": "1% of the labels", "10pct": "10%", "100pct": "all"}
SWEEPS = (
    "size_pretraining",
    "size_supervised",
    "size_fine_tuned",
    "head_fine_tuned",
    "teacher_1pct",
    "teacher_10pct",
    "students_1pct",
    "students_10pct",
    "memory",
    "memory_warmed",
    "memory_60000",
)
MEMORY = {
    "without": "without",
    "decay_0.9": "4,096, decay 0.9",
    "decay_0.99": "4,096, decay 0.99",
    "decay_0.999": "4,096, decay 0.999",
    "queue_512": "512, decay 0.99",
}


def table(runs: pathlib.Path, name: str) -> pd.DataFrame | None:
    """Returns the cells of a sweep, with settings as text; None if it has not run."""
    path = runs / name / "results.csv"
    if not path.exists():
        return None
    found = pd.read_csv(path, dtype=str)
    found = found.assign(seed=found.seed.astype(int), value=found.value.astype(float))
    return found.rename(columns=lambda column: column.removeprefix("checkpoint."))


def settings(found: pd.DataFrame) -> list[str]:
    """Returns the dimensions of a sweep."""
    return [name for name in found if name not in ("seed", "metric", "value")]


def top_1(found: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of top-1 accuracy, in percent."""
    rows = found[found.metric == TOP_1]
    return rows.assign(value=100 * rows.value)


def lines(path: pathlib.Path, panels, x_label: str, y_label: str, ticks) -> None:
    """Writes a figure.

    Args:
        path: Path without a suffix.
        panels: Maps a panel's title to {label: rows with x, mean, low and high}, one line per
            label.
        x_label, y_label: Labels of all panels.
        ticks: Positions and texts on the x axis.
    """
    figure = Figure(figsize=(5 * len(panels) + 1, 5), dpi=150, layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    step = min(b - a for a, b in zip(ticks[0], ticks[0][1:], strict=False))
    for axis, (title, groups) in zip(axes, panels.items(), strict=True):
        for place, (label, rows) in enumerate(groups.items()):
            rows = rows.sort_values("x")
            reach = [rows["mean"] - rows.low, rows.high - rows["mean"]]
            axis.errorbar(
                rows.x + 0.06 * step * (place - 1),  # bars side by side
                rows["mean"],
                yerr=reach,
                label=label,
                color=COLORS[place],
                marker="o",
                capsize=4,
            )
        style_axis(axis, x_label=x_label, y_label=f"{y_label}\n{BARS}" * (axis is axes[0]))
        axis.set_title(title)
        axis.set_xticks(*ticks)
    legend_below(figure, *axes[0].get_legend_handles_labels(), 3)
    save(figure, path, f"{y_label} by {x_label}: {', '.join(groups)}.")


def save(figure: Figure, path: pathlib.Path, alt: str) -> None:
    """Writes a figure as PNG and SVG."""
    figure.set_label(alt)
    for suffix in (".png", ".svg"):
        save_figure(figure, epath.Path(f"{path}{suffix}"))


def shown(rows: pd.DataFrame, names: list[str]) -> None:
    """Prints means with intervals."""
    print(f"| {' | '.join(names)} | mean | 95% interval | seeds |")
    print("| --- " * (len(names) + 3) + "|")
    for row in rows.to_dict("records"):
        cells = [str(row[name]) for name in names]
        interval = f"{row['low']:.1f}, {row['high']:.1f}"
        print(f"| {' | '.join(cells)} | {row['mean']:.1f} | {interval} | {row['n']} |")
    print()


def sizes(runs: pathlib.Path, target: pathlib.Path) -> None:
    """Draws the gain of fine-tuning over supervised training of the same network, by its size."""
    found = {name: table(runs, f"size_{name}") for name in ("supervised", "fine_tuned")}
    if any(value is None for value in found.values()):
        return
    both = pd.concat([top_1(value).assign(method=name) for name, value in found.items()])
    dimensions = ["method", "variant", "resnet_depth", "width_multiplier"]
    gains = differences(both, dimensions, {"method": "supervised"})
    gains["x"] = gains.width_multiplier.astype(float)
    print("Fine-tuned over supervised, points\n")
    shown(gains, dimensions[1:])
    lines(
        target / "gain_by_size",
        {
            f"ResNet-{depth}": {
                LABELS[name]: gains[(gains.variant == name) & (gains.resnet_depth == depth)]
                for name in LABELS
            }
            for depth in ("10", "18")
        },
        "width multiplier",
        "fine-tuned over supervised (points)",
        WIDTHS,
    )
    # The slope: the gain by four times the parameters, largest minus smallest width, over seeds.
    wide = both.pivot_table(index=["method", "variant", "resnet_depth", "seed"],
                            columns="width_multiplier", values="value")  # fmt: skip
    slope = (wide["0.25"] - wide["0.125"]).unstack("method")
    print("Width 0.25 minus width 0.125, points, over both depths and all seeds\n")
    for name in LABELS:
        rows = slope.xs(name, level="variant")
        for method in rows:
            low, high = t_interval(rows[method])
            print(f"{name} {method}: {rows[method].mean():+.1f} ({low:.1f}, {high:.1f})")
    print()


def heads(runs: pathlib.Path, target: pathlib.Path) -> None:
    """Draws top-1 by the layer of the head to fine-tune from and the depth of the head."""
    found = table(runs, "head_fine_tuned")
    if found is None:
        return
    names = settings(found)
    rows = means(top_1(found), names)
    shown(rows, names)
    rows["x"] = rows.ft_proj_selector.astype(int)
    groups = {f"{n} layers": rows[rows.num_proj_layers == n] for n in ("2", "3", "4")}
    ticks = ([0, 1, 2], ["0: encoder", "1", "2"])
    panels = {"1% of the labels": groups}
    lines(target / "head", panels, "layer of the head", "top-1 (%)", ticks)


def students(runs: pathlib.Path, target: pathlib.Path, labels: str) -> None:
    """Draws students by size, with and without labels, and supervised training of the same size."""
    found, teachers = table(runs, f"students_{labels}"), table(runs, f"teacher_{labels}")
    supervised = table(runs, "size_supervised")
    if found is None or teachers is None or supervised is None:
        return
    print(f"Students with {LABELS[labels]}\n")
    names = ["variant", "resnet_depth", "width_multiplier"]
    rows = means(top_1(found), names)
    own = top_1(supervised)
    own = own[(own.variant == labels) & (own.width_multiplier != "0.1875")]
    rows = pd.concat([rows, means(own.assign(variant="supervised"), names)])
    shown(rows, names)
    values = top_1(teachers).value
    low, high = t_interval(values)
    print(f"teacher: {values.mean():.1f} ({low:.1f}, {high:.1f})\n")
    rows["x"] = rows.width_multiplier.astype(float)
    kinds = {
        "unlabelled": "distilled",
        "with_labels": "distilled, with labels",
        "supervised": "supervised",
    }
    panels = {
        f"ResNet-{depth}": {
            label: rows[(rows.variant == kind) & (rows.resnet_depth == depth)]
            for kind, label in kinds.items()
        }
        for depth in ("10", "18")
    }
    ticks = ([0.125, 0.25], ["1/8", "1/4"])
    lines(target / f"students_{labels}", panels, "width of the student", "top-1 (%)", ticks)


def memory(runs: pathlib.Path, target: pathlib.Path) -> None:
    """Draws the rank of the embeddings during training, with and without a memory."""
    if table(runs, "memory") is None:
        return
    figure = Figure(figsize=(10, 4.6), dpi=150, layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, temperature in zip(axes, ("0.2", "1.0"), strict=True):
        for color, (variant, label) in zip(COLORS, MEMORY.items(), strict=False):
            folder = runs / "memory" / f"{variant},temperature={temperature}"
            rows = pd.concat(map(pd.read_csv, sorted(folder.glob("seed_*/history.csv"))))
            rank = rows.groupby("epoch").embedding_rank.mean()
            axis.plot(rank.index, rank, color=color, label=label)
        style_axis(axis, x_label="epoch", y_label="effective rank of the embeddings")
        axis.set_title(f"temperature {float(temperature):g}")
    legend_below(figure, *axes[0].get_legend_handles_labels(), 3)
    save(
        figure,
        target / "memory_rank",
        "Effective rank of the embeddings by epoch, with and without a memory; means of 3 seeds.",
    )


def main() -> None:
    """Draws the figures, prints the tables and copies the sweeps' tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=pathlib.Path)
    parser.add_argument("target", type=pathlib.Path)
    arguments = parser.parse_args()
    runs, target = arguments.runs, arguments.target
    target.mkdir(exist_ok=True)
    for name in SWEEPS:
        if (runs / name / "results.csv").exists():
            shutil.copy(runs / name / "results.csv", target / f"{name}.csv")
    sizes(runs, target)
    heads(runs, target)
    for labels in ("1pct", "10pct"):
        students(runs, target, labels)
    memory(runs, target)


if __name__ == "__main__":
    main()
