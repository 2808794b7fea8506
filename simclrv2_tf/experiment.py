"""A whole run: its stages in order, and what they come to together.

A run of one stage is that stage in `model_dir`. A run of several has a folder for each:

    model_dir/
      config.json, result.json
      pretrain/
      linear_eval/, linear_eval_random_init/       where linear evaluation is asked for
      label_fraction_0.01/                         for each label fraction
        supervised/, fine_tuned/, self_distilled/, small_student/
      results.json, results.md                     a row for each fraction and method
      figures/                                     accuracy, learning curves, reliability
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import gc
import io
import json
import os

import keras
from etils import epath

from simclrv2_tf import distribute, plan, report, stage_runs
from simclrv2_tf.callbacks import seconds_spent
from simclrv2_tf.config import MULTI_STAGE, Config
from simclrv2_tf.plan import PlannedStage
from simclrv2_tf.run_data import open_data
from simclrv2_tf.run_directory import check_same_run, claim, to_json, write
from simclrv2_tf.stage_runs import StageRun


def run(config: Config) -> dict:
    """Carries out `config`: `train_mode` says which stage or stages.

    Returns:
        What `result.json` holds; empty after `mode="train"`.

    Raises:
        ConfigError, DatasetError, RunError, CheckpointError, DeviceError: the run cannot begin;
            nothing on disk was changed.
        NonFiniteError: training diverged.
    """
    planned = plan.stages(config)
    strategy = distribute.make_strategy(
        "tpu" if config.use_tpu else config.strategy,
        config.num_replicas,
        config.master or config.tpu_name,
        config.tpu_zone,
        config.gcp_project,
    )
    if not distribute.is_chief(strategy):
        print("This worker trains along; the chief reports and writes.", flush=True)
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            return _run(config, planned, strategy)
    return _run(config, planned, strategy)


def _run(config: Config, planned: list[PlannedStage], strategy) -> dict:
    keras.config.set_dtype_policy(config.precision)
    if config.train_mode in MULTI_STAGE:
        check_same_run(epath.Path(config.model_dir), config)
    data = open_data(config)
    # All are made, and so checked, before the first begins.
    runs = [
        StageOutcome(stage, stage_runs.make_run(stage.config, data, strategy, stage.caps_batch))
        for stage in planned
    ]
    if config.train_mode not in MULTI_STAGE:
        return runs[0].run.execute()
    return _run_stages(config, runs)


@dataclasses.dataclass
class StageOutcome:
    """A planned stage, its run, and its result once it has ended."""

    planned: PlannedStage
    run: StageRun
    result: dict = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.planned.name

    @property
    def directory(self) -> epath.Path:
        return self.run.directory

    @property
    def seconds(self) -> int:
        return seconds_spent(self.directory / "history.csv")

    def curve(self, metric: str) -> tuple[list[float], list[float]]:
        """Share of the training done in percent, and the metric's mean, epoch by epoch."""
        text = (self.directory / "history.csv").read_text()
        rows = list(csv.DictReader(io.StringIO(text)))
        last = float(rows[-1]["epoch"])
        done = [100 * float(row["epoch"]) / last for row in rows]
        return done, [float(row[metric]) for row in rows]


def _run_stages(config: Config, stages: list[StageOutcome]) -> dict:
    root = epath.Path(config.model_dir)
    for index, stage in enumerate(stages):
        print(f"\n[{index + 1}/{len(stages)}] {stage.directory.relative_to(root)}", flush=True)
        stage.result = stage.run.execute()
        gc.collect()  # a stage's graphs are circles, and large
        if index == 0 and config.mode != "eval" and stage.run.is_chief:
            claim(root, config)
    if not all(stage.result for stage in stages):
        return {}
    return _report(config, stages) if stages[0].run.is_chief else stages[0].result


def _report(config: Config, stages: list[StageOutcome]) -> dict:
    """Writes and prints what the stages came to together; returns what `result.json` holds."""
    root = epath.Path(config.model_dir)
    few_label = [stage for stage in stages if stage.name in plan.METHODS]
    others = [stage for stage in stages if stage.name not in plan.METHODS]
    result = dict(stages[0].result)
    if len(others) > 1:
        linear = {stage.name: stage.result for stage in others}
        result = {
            **linear["linear_eval"],
            "random_init_top_1_accuracy": linear["linear_eval_random_init"]["label_top_1_accuracy"],
            "pretrain_global_step": result["global_step"],
        }
    suffix = f"_{config.eval_name}" if config.eval_name else ""
    write(root / f"result{suffix}.json", to_json(result))
    places = {
        "linear evaluation" if len(others) > 1 else "pretraining": root / f"result{suffix}.json",
        "views": stages[0].directory / "views.png",
        "encoder, head": stages[0].directory / "*.keras",
        "SavedModels": f"hub/ in each stage's folder, such as {stages[-1].directory / 'hub'}",
        "TensorBoard": f"tensorboard --logdir {root}",
    }
    print(f"\n{_table(others)}\n")
    if few_label:
        rows = [_row(stage, few_label) for stage in few_label]
        text = report.results_markdown(rows)
        print(text)
        write(root / f"results{suffix}.json", to_json({"rows": rows}))
        write(root / f"results{suffix}.md", text)
        figures = root / f"figures{suffix}"
        _draw(figures, rows, few_label, stages[0], suffix)
        places = {
            "results": f"{root / f'results{suffix}.json'}, .md",
            "figures": figures,
            **places,
        }
    for name, place in places.items():
        print(f"{name + ':':<19}{place}")
    return result


def _table(stages: list[StageOutcome]) -> str:
    """Pretraining and linear evaluation."""
    titles = {
        "pretrain": "pretraining, online classifier",
        "linear_eval": "linear evaluation, pretrained",
        "linear_eval_random_init": "linear evaluation, random initialization",
    }
    rows = [
        (
            titles[stage.name],
            stage.run.encoder_description,
            stage.run.num_labels,
            stage.result.get("label_top_1_accuracy"),
            stage.result.get("label_top_5_accuracy"),
            stage.seconds,
        )
        for stage in stages
    ]
    return report.table(["stage", "encoder", "labels", "top-1", "top-5", "seconds"], rows)


def _row(stage: StageOutcome, few_label: list[StageOutcome]) -> dict:
    """A row of `results.json`.

    `parameters` are those of the encoder with its moving statistics, as the paper counts them;
    `seconds` those of this stage's training alone.
    """
    baseline = next(s for s in few_label if s.planned.fraction == stage.planned.fraction)
    num_labels = baseline.run.num_labels
    images = stage.run.data.main.split(stage.run.config.train_split).num_examples
    return {
        "label_fraction": stage.planned.fraction or num_labels / images,
        "method": stage.name,
        "top1": stage.result["label_top_1_accuracy"],
        "num_labels": num_labels,
        "parameters": stage.result["encoder_parameters"],
        "seconds": stage.seconds,
        "expected_calibration_error": stage.result["expected_calibration_error"],
    }


def _draw(
    figures: epath.Path,
    rows: list[dict],
    few_label: list[StageOutcome],
    pretrain: StageOutcome,
    suffix: str,
) -> None:
    """Writes the figures; `suffix` is that of the evaluation's files."""
    figures.mkdir(parents=True, exist_ok=True)
    panels = [
        report.Panel(
            "pretraining",
            "contrastive loss",
            {"pretraining": pretrain.curve("contrast_loss")},
            "training done (%)",
        )
    ]
    groups = {}
    for stage, row in zip(few_label, rows, strict=True):
        groups.setdefault(report.percent(row["label_fraction"]), []).append(stage)
    drawn = {"accuracy": report.accuracy_figure(rows)}
    for fraction, group in groups.items():
        curves, reliability = {}, {}
        for stage in group:
            distills = stage.run.config.train_mode == "distill"
            curves[stage.name] = stage.curve("teacher_agreement" if distills else "top_1_accuracy")
            calibration = json.loads((stage.directory / f"calibration{suffix}.json").read_text())
            reliability[report.METHODS[stage.name].name] = calibration[
                "student" if distills else stage.run.config.train_mode
            ]
        panels.append(
            report.Panel(
                f"{fraction} of the labels",
                "training accuracy, or\nagreement with the teacher",
                curves,
                "training done (%)",
            )
        )
        drawn[f"reliability_{fraction.removesuffix('%')}pct"] = report.reliability_figure(
            reliability
        )
    drawn["learning_curves"] = report.learning_curves_figure(panels)
    for name, figure in drawn.items():
        for extension in ("png", "svg"):
            report.save_figure(figure, figures / f"{name}.{extension}")
