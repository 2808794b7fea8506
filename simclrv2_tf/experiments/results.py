"""The results of a run of several stages: tables, figures, and the files that hold them."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from typing import TYPE_CHECKING

from etils import epath, epy

from simclrv2_tf import files
from simclrv2_tf.experiments import learning_curves, plan, report_page
from simclrv2_tf.experiments.run_files import STARTS

with epy.lazy_imports():
    from simclrv2_tf import predictions
    from simclrv2_tf import report as report_lib
    from simclrv2_tf.metrics import classification
    from simclrv2_tf.training import history

if TYPE_CHECKING:
    from simclrv2_tf.experiments.directory import RunDirectory
    from simclrv2_tf.experiments.stage import StageRun


_COLUMNS = 100  # width of a line on the console


@dataclasses.dataclass
class Outcome:
    """A planned stage, its run, and its result after the run."""

    planned: plan.PlannedStage
    run: StageRun
    result: dict = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.planned.name

    @property
    def directory(self) -> epath.Path:
        return self.run.directory.path

    @property
    def distills(self) -> bool:
        return self.run.config.train_mode == "distill"

    @property
    def seconds(self) -> int:
        """Returns the seconds of this stage's training."""
        return history.seconds_spent(self.run.directory.history)

    def predictions(self) -> predictions.Predictions | None:
        """The predictions of the stage's own classifier; None for runs of an earlier version."""
        path = self.run.directory.named(predictions.NAME)
        return predictions.read(path) if path.exists() else None

    def calibration(self) -> dict:
        """The calibration of the stage's own classifier."""
        found = json.loads(self.run.directory.named("calibration.json").read_text())
        return found["student" if self.distills else self.run.config.train_mode]


def report(root: RunDirectory, outcomes: list[Outcome]) -> tuple[dict, str]:
    """Writes the results of all stages; returns the content of `result.json` and its text."""
    few_label = [outcome for outcome in outcomes if outcome.name in plan.METHODS]
    others = [outcome for outcome in outcomes if outcome.name not in plan.METHODS]
    result = _main_result(others)
    files.write_text(root.result, files.to_json(result))
    places = {
        "linear evaluation" if len(others) > 1 else "pretraining": root.result,
        "views": outcomes[0].directory / "views.png",
        "encoder, head": outcomes[0].directory / "*.keras",
        "TensorBoard": f"tensorboard --logdir {root}",
    }
    module = outcomes[0].directory / "hub"
    if module.exists():
        places["SavedModel"] = f"{module}, of pretraining; of all: --export_formats=saved_model"
    said = [f"\n{_table(others)}\n"]
    if few_label:
        rows = [_row(outcome, _baseline(outcome, few_label)) for outcome in few_label]
        steps, line = _more_labels(few_label, rows)
        text = report_lib.results_markdown(rows) + line
        said.append(text)
        path, figures = root.named("results.json"), root.named("figures")
        files.write_text(path, files.to_json({"rows": rows, "label_steps": steps}))
        files.write_text(path.with_suffix(".md"), text)
        _draw(figures, rows, few_label, outcomes[0])
        places = {"results": f"{path}, .md", "figures": figures, **places}
    if (page := root.path / report_page.FILE).exists():
        places = {"report": page, **places}
    said += [f"{name + ':':<19}{place}" for name, place in places.items()]
    return result, "\n".join(said)


def _more_labels(few_label: list[Outcome], rows: list[dict]) -> tuple[list[dict], str]:
    """Returns the gains by more labels: `label_steps` of `results.json`, and their text."""
    points = [
        report_lib.LabelPoint(row["method"], row["num_labels"], row["top1"], outcome.predictions())
        for outcome, row in zip(few_label, rows, strict=True)
    ]
    steps = report_lib.label_steps(points)
    last = report_lib.last_step(points, steps)
    text = f"\n{textwrap.fill(last.line, _COLUMNS)}\n" if last else ""
    return [step.row() for step in steps], text


def draw_learning_curves(directory: RunDirectory) -> None:
    """Draws the learning curves of a run of one stage; runs of several stages have one figure."""
    if not directory.history.exists():
        return
    if panels := learning_curves.of_stage(directory.history):
        figure, numbers = _learning_curves(panels)
        report_lib.save_drawn(figure, numbers, directory.path, "learning_curves")


def draw_calibration(directory: RunDirectory) -> None:
    """Draws the calibration of a run of one stage; runs of several stages have one figure.

    Omits classifiers without examples, or with a number that is not finite.
    """
    path = directory.named("calibration.json")
    if path.exists():
        shown = _drawable(json.loads(path.read_text()))
        if shown:
            figure, numbers = _reliability(shown)
            report_lib.save_drawn(figure, numbers, path.parent, path.stem, (".png",))


def _reliability(shown: dict[str, dict]):
    return report_lib.reliability_figure(shown), report_lib.reliability_numbers(shown)


def _drawable(results: dict[str, dict]) -> dict[str, dict]:
    return {name: result for name, result in results.items() if report_lib.can_be_drawn(result)}


def _main_result(others: list[Outcome]) -> dict:
    """Returns the run's result: of its linear evaluation if it has one, else of pretraining."""
    result = dict(others[0].result)
    if len(others) == 1:
        return result
    linear = {outcome.name: outcome.result for outcome in others}
    return {
        **linear["linear_eval"],
        "random_init_top_1_accuracy": linear[plan.RANDOM_INIT]["label_top_1_accuracy"],
        "pretrain_global_step": result["global_step"],
    }


def _table(outcomes: list[Outcome]) -> str:
    """Returns the rows of pretraining and linear evaluation."""
    rows = [
        (
            outcome.run.title + STARTS.get(outcome.name, ""),
            outcome.run.config.encoder_description,
            outcome.run.num_labels,
            report_lib.with_interval(
                {
                    "top1": outcome.result.get("label_top_1_accuracy"),
                    "top1_low": outcome.result.get("label_top_1_low"),
                    "top1_high": outcome.result.get("label_top_1_high"),
                },
                "top1",
            ),
            report_lib.in_percent(outcome.result.get("label_top_5_accuracy")),
            outcome.seconds,
        )
        for outcome in outcomes
    ]
    return report_lib.table(["stage", "encoder", "labels", "top-1 (%)", "top-5", "seconds"], rows)


def _baseline(outcome: Outcome, few_label: list[Outcome]) -> Outcome:
    """Returns the supervised training on the same labels."""
    return next(o for o in few_label if o.planned.fraction == outcome.planned.fraction)


def _row(outcome: Outcome, baseline: Outcome) -> dict:
    """Returns a row of `results.json`.

    `parameters` counts the encoder with its moving statistics, like the paper. `seconds` only
    counts this stage's training. `gain` is over `baseline`, on the same images.
    """
    num_labels = baseline.run.num_labels
    images = outcome.run.data.main.split(outcome.run.config.train_split).num_examples
    row = {
        "label_fraction": outcome.planned.fraction or num_labels / images,
        "method": outcome.name,
        "top1": outcome.result["label_top_1_accuracy"],
        "top1_low": outcome.result.get("label_top_1_low"),
        "top1_high": outcome.result.get("label_top_1_high"),
        "images": outcome.result.get("images"),
        "num_labels": num_labels,
        "parameters": outcome.result["encoder_parameters"],
        "seconds": outcome.seconds,
        "expected_calibration_error": outcome.result["expected_calibration_error"],
    }
    compares = outcome is not baseline
    if compares and (gained := classification.gain(outcome.predictions(), baseline.predictions())):
        names = ("gain", "gain_low", "gain_high", "gain_p_value")
        row |= dict(zip(names, gained, strict=True))
    return {name: value for name, value in row.items() if value is not None}


def _draw(
    figures: epath.Path, rows: list[dict], few_label: list[Outcome], pretrain: Outcome
) -> None:
    figures.mkdir(parents=True, exist_ok=True)
    drawn = {"accuracy": (report_lib.accuracy_figure(rows), report_lib.accuracy_numbers(rows))}
    groups: dict[str, list[Outcome]] = {}
    for outcome, row in zip(few_label, rows, strict=True):
        groups.setdefault(report_lib.percent(row["label_fraction"]), []).append(outcome)
    for fraction, group in groups.items():
        shown = _drawable({report_lib.METHODS[o.name].name: o.calibration() for o in group})
        if shown:
            drawn[f"reliability_{fraction.removesuffix('%')}pct"] = _reliability(shown)
    panels = learning_curves.of_stages(
        pretrain.run.directory.history,
        {
            fraction: {outcome.name: outcome.run.directory.history for outcome in group}
            for fraction, group in groups.items()
        },
    )
    drawn["learning_curves"] = _learning_curves(panels)
    for name, (figure, numbers) in drawn.items():
        report_lib.save_drawn(figure, numbers, figures, name)


def _learning_curves(panels: list[report_lib.Panel]):
    return report_lib.learning_curves_figure(panels), report_lib.learning_curves_numbers(panels)
