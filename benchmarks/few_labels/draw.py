"""Draws the comparison, and prints its tables, from finished sweeps.

    python benchmarks/few_labels/draw.py runs benchmarks/few_labels/results

Copies each sweep's table (`NAME.csv`) to the figure's folder. Some of the sweeps belong to
`benchmarks/paper_figures`.
"""

import argparse
import pathlib
import shutil

import pandas as pd
from etils import epath
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from simclrv2_tf.report.style import legend_below, save_figure, style_axis
from simclrv2_tf.sweep.statistics import differences, means

TOP_1, SECONDS = "label_top_1_accuracy", "seconds"
LABELS = {"1pct": "1% of the labels", "10pct": "10% of the labels"}
METHODS = {"pseudo_label": "pseudo-labels", "mean_teacher": "mean teacher", "fixmatch": "FixMatch"}
SUPERVISED, LONG = "supervised", "supervised, same length"
FINE_TUNED, BYOL = "SimCLRv2: fine-tuned", "BYOL: fine-tuned"
COLORS = {"": "#555555", "alone": "#D55E00", "pretrained": "#0072B2"}
OWN = ("search_alone", "search_pretrained", "supervised_long", "byol_pretraining")
STAGES = ("alone", "pretrained", "byol", "distilled_alone", "distilled_pretrained")


def cells(folder: pathlib.Path, **settings: str) -> pd.DataFrame | None:
    """Returns top-1 (in percent) and seconds of a sweep's cells with these settings, or None."""
    path = folder / "results.csv"
    if not path.exists():
        return None
    found = pd.read_csv(path, dtype=str)
    for name, value in settings.items():
        found = found[found[name.replace("__", ".")] == value]
    found = found[found.metric.isin((TOP_1, SECONDS))]
    value = found.value.astype(float).where(
        found.metric == SECONDS, 100 * found.value.astype(float)
    )
    return pd.DataFrame({"seed": found.seed.astype(int), "metric": found.metric, "value": value})


def compared(runs: pathlib.Path, labels: str) -> pd.DataFrame:
    """Returns all cells: method, kind (of `COLORS`), distilled, seed, metric, value."""
    figures, own = runs / "paper_figures", runs / "few_labels"
    network = {"resnet_depth": "18", "width_multiplier": "0.25"}
    parts = [
        (SUPERVISED, "", False, cells(figures / "size_supervised", variant=labels, **network)),
        (LONG, "", False, cells(own / "supervised_long", variant=labels)),
        (FINE_TUNED, "pretrained", False, cells(figures / f"teacher_{labels}")),
        (
            FINE_TUNED,
            "pretrained",
            True,
            cells(figures / f"students_{labels}", variant="unlabelled", **network),
        ),
    ]
    parts.append((BYOL, "pretrained", False, cells(own / f"byol_{labels}")))
    for kind in ("alone", "pretrained"):
        for method, name in METHODS.items():
            full = f"{name}, pretrained" if kind == "pretrained" else name
            parts.append((full, kind, False, cells(own / f"{kind}_{labels}", variant=method)))
            students = cells(own / f"distilled_{kind}_{labels}", teacher__variant=method)
            parts.append((full, kind, True, students))
    found = pd.concat(
        rows.assign(method=method, kind=kind, distilled=distilled)
        for method, kind, distilled, rows in parts
        if rows is not None
    )
    # Counts all training that leads to a network.
    of_byol = (found.method == BYOL) & (found.metric == SECONDS)
    others = (found.kind == "pretrained") & (found.metric == SECONDS) & ~of_byol
    for rows, folder in (
        (others, figures / "teacher_pretraining"),
        (of_byol, own / "byol_pretraining"),
    ):
        pretraining = cells(folder)
        if pretraining is not None:
            found.loc[rows, "value"] += pretraining[pretraining.metric == SECONDS].value.mean()
    return found


def shown(found: pd.DataFrame, title: str) -> pd.DataFrame:
    """Prints the table of one share of the labels; returns the means of top-1."""
    names = ["method", "kind", "distilled"]
    accuracy = found[found.metric == TOP_1]
    rows = means(accuracy, names)
    seconds = found[found.metric == SECONDS].groupby(names).value.mean()
    own = accuracy[~accuracy.distilled].drop(columns="distilled")
    gains = {
        base: differences(own.drop(columns="kind"), ["method"], {"method": base}).set_index(
            "method"
        )
        for base in (SUPERVISED, FINE_TUNED)
    }
    print(
        f"## {title}\n\n| method | top-1 | over supervised | over SimCLRv2 | distilled | seconds |"
    )
    print("| --- | --- | --- | --- | --- | ---: |")
    for row in rows[~rows.distilled].sort_values("mean", ascending=False).to_dict("records"):
        student = rows[(rows.method == row["method"]) & rows.distilled]
        texts = [f"{row['method']}", f"{row['mean']:.1f} ± {row['std']:.1f}"]
        for table in gains.values():
            gain = table.loc[row["method"]] if row["method"] in table.index else None
            interval = "" if gain is None else f"({gain.low:.1f}, {gain.high:.1f})"
            texts.append("-" if gain is None else f"{gain['mean']:+.1f} {interval}")
        texts.append(
            "-" if student.empty else f"{student['mean'].item():.1f} ± {student['std'].item():.1f}"
        )
        texts.append(f"{seconds[row['method'], row['kind'], False]:.0f}")
        print(f"| {' | '.join(texts)} |")
    print()
    return rows


def draw(panels: dict[str, pd.DataFrame], path: pathlib.Path) -> None:
    """Draws one panel per share of the labels, with one row per method."""
    figure = Figure(figsize=(13, 6), dpi=150, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, rows) in zip(axes, panels.items(), strict=True):
        plain = rows[~rows.distilled].sort_values("mean").reset_index(drop=True)
        for place, row in plain.iterrows():
            for student in (False, True):
                found = rows[(rows.method == row.method) & (rows.distilled == student)]
                if found.empty:
                    continue
                mean, low, high = (found[name].item() for name in ("mean", "low", "high"))
                axis.errorbar(
                    mean,
                    place - 0.18 * student,
                    xerr=[[mean - low], [high - mean]],
                    color=COLORS[row.kind],
                    marker="D" if student else "o",
                    markerfacecolor="white" if student else None,
                    capsize=3,
                )
        axis.set_yticks(range(len(plain)), plain.method)
        style_axis(axis, x_label="top-1 (%)\nbars: 95% t interval over three seeds")
        axis.set_title(title)
    kinds = {
        "": "labels alone",
        "alone": "with unlabelled images",
        "pretrained": "with pretraining",
    }
    handles = [Line2D([], [], color=COLORS[kind], marker="o") for kind in kinds]
    handles.append(Line2D([], [], color="black", marker="D", markerfacecolor="white", linestyle=""))
    legend_below(figure, handles, [*kinds.values(), "distilled into a network of the same size"], 4)
    alt = "Top-1 of each method with its interval; open diamonds are distilled students"
    figure.set_label(alt)
    for suffix in (".png", ".svg"):
        save_figure(figure, epath.Path(f"{path}{suffix}"))


def main() -> None:
    """Reads the sweeps, writes tables and figure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", type=pathlib.Path)
    parser.add_argument("target", type=pathlib.Path)
    args = parser.parse_args()
    args.target.mkdir(parents=True, exist_ok=True)
    for name in (*OWN, *(f"{stage}_{labels}" for stage in STAGES for labels in LABELS)):
        path = args.runs / "few_labels" / name / "results.csv"
        if path.exists():
            shutil.copyfile(path, args.target / f"{name}.csv")
    panels = {title: shown(compared(args.runs, labels), title) for labels, title in LABELS.items()}
    draw(panels, args.target / "methods")


if __name__ == "__main__":
    main()
