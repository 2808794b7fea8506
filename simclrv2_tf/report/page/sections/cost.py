"""Cost: seconds, steps and parameters of each stage."""

from __future__ import annotations

from simclrv2_tf.report.page import blocks
from simclrv2_tf.report.page.runs import Run, Stage

QUESTION = "Cost"


def answer(run: Run, prefix: str) -> list[blocks.Block]:
    """Returns a table of the stages, and their devices."""
    rows = [
        (
            stage.in_words,
            stage.encoder,
            blocks.count(stage.result.get("encoder_parameters")),
            blocks.count(stage.result.get("global_step")),
            blocks.count(stage.options.get("train_batch_size")),
            blocks.count(stage.seconds or None),
            blocks.count(_images_a_second(stage)),
        )
        for stage in run.stages
    ]
    header = ["stage", "encoder", "parameters", "steps", "batch", "seconds", "images/s"]
    caption = (
        "Only training, without evaluation and export; parameters count the encoder with its "
        "moving statistics, as in the paper"
    )
    return [blocks.Table(caption, header, rows), blocks.Text(_devices(run))]


def _images_a_second(stage: Stage) -> float | None:
    steps, seconds = stage.result.get("global_step"), stage.seconds
    return steps * stage.options["train_batch_size"] / seconds if steps and seconds else None


def _devices(run: Run) -> str:
    sessions = run.record.get("sessions") or [{}]
    last = sessions[-1]
    devices = ", ".join(last.get("devices", ())) or "unknown devices"
    said = f"On {devices}, in {last.get('precision', 'unknown')} precision"
    if last.get("replicas", 1) > 1:
        said += f", {last['replicas']} replicas"
    times = f", in {len(sessions)} sessions" if len(sessions) > 1 else ""
    return f"{said}{times}."
