"""Verdict: the most important numbers."""

from __future__ import annotations

from simclrv2_tf.metrics import classification, representations
from simclrv2_tf.report.page import blocks
from simclrv2_tf.report.page.blocks import Fact
from simclrv2_tf.report.page.runs import LINEAR, PRETRAIN, RANDOM_INIT, Run, Stage
from simclrv2_tf.report.results import METHODS, percent

QUESTION = "Verdict"
_POINTS = "points"


def answer(run: Run, prefix: str) -> list[blocks.Block]:
    """Returns best accuracy, gain over supervised training, collapse and time."""
    facts = [fact for fact in (_best(run), gain(run), collapse(run)) if fact]
    stages = f"training of {len(run.stages)} stages" if run.several else "training"
    if run.seconds:
        facts.append(Fact("Time", blocks.time(run.seconds), stages))
    found: list[blocks.Block] = [blocks.Facts(facts)] if facts else []
    candidates = [stage for stage in run.evaluated if stage.learns_labels]
    if len(candidates) > 2:
        found.append(
            blocks.Text(
                f"The best is the highest of {len(candidates)} accuracies on the same images, so "
                "it slightly overestimates the accuracy on new images. All come from one seed."
            )
        )
    if not run.evaluated and not any(stage.result for stage in run.stages):
        found.append(
            blocks.Text(
                "No stage has been evaluated yet: the run is still in progress, or was stopped."
            )
        )
    if run.unreadable:
        files = "; ".join(f"{file} ({reason})" for file, reason in run.unreadable)
        found.append(blocks.Text(f"Omitted files that cannot be read: {files}."))
    return found


def _best(run: Run) -> Fact | None:
    stage = run.best
    if stage is None:
        return _contrast(run)
    notes = [stage.in_words]
    if stage.interval:
        notes.append(f"95% interval {blocks.between(stage.interval)}")
    if stage.images:
        notes.append(f"{stage.images:,} test images")
    return Fact("Best top-1 accuracy", blocks.share(stage.top1), "; ".join(notes))


def _contrast(run: Run) -> Fact | None:
    """Returns, without labels, how well pretraining identifies the other view of an image."""
    stage = run.stage(PRETRAIN)
    accuracy = stage.result.get("contrast_accuracy") if stage else None
    if accuracy is None:
        return None
    note = "share of the test images whose other view is the most similar in the batch"
    return Fact("Contrastive accuracy", blocks.share(accuracy), note)


def gain(run: Run) -> Fact | None:
    """Returns the gain of pretraining with the fewest labels, or over random weights."""
    for stage in sorted(run.few_label, key=lambda stage: (stage.fraction, -stage.top1)):
        baseline = run.baseline(stage)
        if baseline is None:
            continue
        name = METHODS[stage.name].name
        labels = percent(stage.fraction)
        note = f"{name}, with {labels} of the labels; {_compared(stage, baseline)}"
        gained = points(stage.top1 - baseline.top1)
        return Fact("Gain over supervised training", gained, note, _POINTS)
    linear, random = run.stage(LINEAR), run.stage(RANDOM_INIT)
    if linear and random and linear.top1 is not None and random.top1 is not None:
        note = f"linear evaluation; {_compared(linear, random)}"
        gained = points(linear.top1 - random.top1)
        return Fact("Gain over random initialization", gained, note, _POINTS)
    return _over_teacher(run)


def _over_teacher(run: Run) -> Fact | None:
    stage = run.stages[0]
    teacher = stage.result.get("teacher_label_top_1_accuracy")
    if run.several or teacher is None or stage.top1 is None:
        return None
    note = f"teacher: {blocks.share(teacher)}"
    return Fact("Gain over the teacher", points(stage.top1 - teacher), note, _POINTS)


def points(difference: float) -> blocks.Number:
    """Formats a difference of shares in percentage points, with its sign."""
    # Accuracies are float32: without rounding, a gain of 17 in 2,000 is sometimes 0.8, sometimes
    # 0.9.
    return blocks.Number(f"{100 * round(difference, 6):+.1f}".replace("-", "−"), difference)


def _compared(stage: Stage, baseline: Stage) -> str:
    """Returns the 95% interval of a gain, from the images on which the two differ."""
    found = classification.gain(stage.predictions, baseline.predictions)
    if found is None:
        return "no interval: predictions of both for the same images are missing"
    bounds = f"{100 * found.low:+.1f} to {100 * found.high:+.1f}".replace("-", "−")
    noise = ", which includes 0" if found.low <= 0 <= found.high else ""
    return f"95% interval {bounds}{noise}"


def collapse(run: Run) -> Fact | None:
    """Returns whether the outputs of pretraining have collapsed to a point or a line."""
    stage = run.stage(PRETRAIN)
    measured = _measured(stage) if stage else None
    if stage is None or measured is None:
        return None
    rank = measured["representation_rank"]
    note = f"the representations vary in about {rank:.0f} dimensions (effective rank)"
    settled = representations.settled_after(float(stage.options.get("batch_norm_decay", 0.9)))
    what = representations.collapsed(measured, stage.result.get("global_step", 0) >= settled)
    if what:
        return Fact("Collapse", "yes", what)
    return Fact("Collapse", "none", note)


def _measured(stage: Stage) -> dict[str, float] | None:
    """Returns the evaluation's numbers that show collapse."""
    names = [f"{x}_{y}" for x in ("representation", "embedding") for y in ("rank", "spread")]
    found = {name: stage.result.get(name) for name in names}
    return None if None in found.values() else found
