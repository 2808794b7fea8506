"""Compares several runs."""

from __future__ import annotations

from collections.abc import Sequence

from simclrv2_tf.report.page import blocks
from simclrv2_tf.report.page.runs import PRETRAIN, Run
from simclrv2_tf.report.page.sections import verdict
from simclrv2_tf.report.results import METHODS, percent


def compared(runs: Sequence[Run]) -> list[blocks.Block]:
    """Returns a table of the runs, and a table of their accuracies with few labels."""
    return [_verdicts(runs), *_few_labels(runs)]


def names(runs: Sequence[Run]) -> list[str]:
    """Returns a name per run: the last part of its path, or the path if that is not unique."""
    short = [run.name for run in runs]
    return [
        name if short.count(name) == 1 else run.path for name, run in zip(short, runs, strict=True)
    ]


def _verdicts(runs: Sequence[Run]) -> blocks.Table:
    rows = []
    for name, run in zip(names(runs), runs, strict=True):
        best, pretrain = run.best, run.stage(PRETRAIN)
        collapse = verdict.collapse(run)
        rows.append(
            (
                name,
                best and blocks.share(best.top1),
                best and blocks.between(best.interval),
                best and best.in_words,
                pretrain and pretrain.options.get("objective"),
                collapse and str(collapse.value),
                run.stages[0].encoder,
                blocks.time(run.seconds) if run.seconds else None,
            )
        )
    header = ["run", "best top-1", "95% interval", "by", "objective", "collapse", "encoder", "time"]
    scores = [run.best.top1 if run.best else -1 for run in runs]
    marked = scores.index(max(scores)) if max(scores) >= 0 else None
    return blocks.Table("The runs and their best classifier", header, rows, marked)


def _few_labels(runs: Sequence[Run]) -> list[blocks.Block]:
    """Returns top-1 accuracy by share of the labels and method, one column per run."""
    found = [{(stage.fraction, stage.name): stage for stage in run.few_label} for run in runs]
    order = list(METHODS)
    keys = sorted({key for each in found for key in each}, key=lambda k: (k[0], order.index(k[1])))
    if not keys:
        return []
    rows = [
        (
            f"{METHODS[name].name}, {percent(fraction)} of the labels",
            *(_cell(each.get((fraction, name))) for each in found),
        )
        for fraction, name in keys
    ]
    header = ["top-1 accuracy", *names(runs)]
    return [blocks.Table("Few labels", header, rows)]


def _cell(stage) -> blocks.Number | None:
    return blocks.share(stage.top1) if stage else None
