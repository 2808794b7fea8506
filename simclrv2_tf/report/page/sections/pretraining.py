"""Did pretraining work? Its curves, each with a note on what is normal."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from simclrv2_tf.report.figures import Panel, learning_curves_figure
from simclrv2_tf.report.page import blocks, pictures
from simclrv2_tf.report.page.runs import LINEAR, PRETRAIN, RANDOM_INIT, Run, Stage
from simclrv2_tf.report.style import ACCENT, SECOND

QUESTION = "Did pretraining work?"


class _Curve(NamedTuple):
    """A figure: names and columns of its curves, and a note on what is normal."""

    title: str
    unit: str
    columns: dict[str, str]
    normal: Callable[[Stage], str]
    scale: float = 1.0


def _normal_loss(stage: Stage) -> str:
    said = "Normal: falls fast, then more and more slowly."
    options = stage.options
    # One of the 2B - 1 other views is the positive, which the decoupled loss excludes.
    left_out = {"nt_xent": 1, "decoupled": 2}.get(options.get("objective", ""))
    if left_out and not options.get("memory_size"):
        # Both directions are summed.
        chance = 2 * math.log(2 * options["train_batch_size"] - left_out)
        said += f" Without learning, the loss stays at {chance:.1f}."
    return said


_CURVES = (
    _Curve("Loss", "contrastive loss", {"loss": "contrast_loss"}, _normal_loss),
    _Curve(
        "Online classifier",
        "training accuracy (%)",
        {"online classifier": "probe_accuracy"},
        lambda stage: (
            "Normal: rises and levels off. This classifier trains alongside the encoder, on "
            "augmented views, and passes no gradient to it."
        ),
        100.0,
    ),
    _Curve(
        "Nearest neighbours",
        "held-out accuracy (%)",
        {"nearest neighbours": "knn_top_1_accuracy"},
        lambda stage: (
            "Normal: rises and levels off. If it falls while the loss still falls, the network "
            "learns to distinguish views, but not classes."
        ),
        100.0,
    ),
    _Curve(
        "Effective rank",
        "dimensions",
        {"representation": "representation_rank", "embedding": "embedding_rank"},
        lambda stage: (
            "Normal: stays far above 1, and changes slowly. At 1.5 or less the outputs have "
            "collapsed."
        ),
    ),
)


def answer(run: Run, prefix: str) -> list[blocks.Block] | None:
    """Returns curves of the history and linear evaluation; None without pretraining."""
    stage = run.stage(PRETRAIN)
    if stage is None:
        return None
    if not stage.history:
        return [
            blocks.Text(
                "This section needs history.csv, which pretraining writes after each epoch."
            )
        ]
    figures, missing = [], []
    for curve in _CURVES:
        figure = _figure(stage, curve, f"{prefix}-{curve.title.lower().replace(' ', '-')}")
        figures.append(figure) if figure else missing.append(curve.title)
    found: list[blocks.Block] = [*_linear(run), blocks.Figures(figures)]
    if "Online classifier" in missing:
        found.append(
            blocks.Text("There is no online classifier, because pretraining had no labels.")
        )
    if "Nearest neighbours" in missing:
        found.append(
            blocks.Text(
                "The accuracy of nearest neighbours was not measured; use --eval_epochs=1 to "
                "measure it after each epoch."
            )
        )
    return found


def _figure(stage: Stage, curve: _Curve, prefix: str) -> blocks.Figure | None:
    curves = {}
    for name, column in curve.columns.items():
        epochs, values = stage.curve(column)
        if values:
            curves[name] = epochs, [curve.scale * value for value in values]
    if not curves:
        return None
    ends = "; ".join(
        f"{name} from {values[0]:.3g} to {values[-1]:.3g} in {epochs[-1]:.0f} epochs"
        for name, (epochs, values) in curves.items()
    )
    alt = f"{curve.title}: {ends}."
    svg = pictures.inline_svg(_drawn, [curve.unit, curves], prefix, alt)
    return blocks.Figure(svg, ends, curve.title, curve.normal(stage))


def _drawn(values):
    unit, curves = values
    colors = dict(zip(curves, (ACCENT, SECOND), strict=False))
    return learning_curves_figure([Panel("", unit, curves)], colors)


def _linear(run: Run) -> list[blocks.Block]:
    """Returns linear evaluation, pretrained and at random initialization."""
    stages = [stage for name in (LINEAR, RANDOM_INIT) if (stage := run.stage(name))]
    rows = [
        (
            stage.title,
            blocks.share(stage.top1),
            blocks.between(stage.interval),
            blocks.share(stage.result.get("label_top_5_accuracy")),
        )
        for stage in (run.stage(PRETRAIN), *stages)
        if stage is not None and stage.top1 is not None
    ]
    if not rows:
        return []
    header = ["classifier on the encoder", "top-1", "95% interval", "top-5"]
    caption = "Accuracy of a linear classifier on the representation"
    return [blocks.Table(caption, header, rows)]
