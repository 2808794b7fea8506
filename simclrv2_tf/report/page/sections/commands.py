"""Reproduce and use the run: commands to copy."""

from __future__ import annotations

import json
import os
import shlex

from simclrv2_tf.contents import IMAGE_CLASSIFIER, KERAS_FILES
from simclrv2_tf.report.page import blocks
from simclrv2_tf.report.page.runs import PRETRAIN, Run, Stage


def reproduce(run: Run, prefix: str) -> list[blocks.Block]:
    """Returns the command, versions and options of the run."""
    sessions = run.record.get("sessions") or []
    if not sessions:
        found: list[blocks.Block] = [
            blocks.Text("There is no run.json with the command and the versions of the run.")
        ]
    else:
        first, last = sessions[0], sessions[-1]
        versions = [(name, version) for name, version in last.get("versions", {}).items()]
        when = f"Started {_when(first.get('began'))}"
        if last.get("ended"):
            when += (
                f", first stage ended {_when(last['ended'])}"
                if run.several
                else f", ended {_when(last['ended'])}"
            )
        found = [
            blocks.Text(f"{when}."),
            blocks.Code("The command", _command(first.get("command", []))),
            blocks.Table("Versions", ["package", "version"], versions),
        ]
    options = json.dumps(dict(run.options), indent=2)
    return [*found, blocks.Code("All options (config.json)", options, folded=True)]


def _command(argv: list[str]) -> str:
    """Returns the command as typed, with a module's name instead of its file."""
    if not argv:
        return ""
    program, arguments = argv[0], argv[1:]
    name = os.path.basename(program)
    if name.endswith(".py"):
        module = os.path.basename(os.path.dirname(program)) + "." + name.removesuffix(".py")
        if module.startswith("simclrv2_tf."):
            return shlex.join(["python", "-m", module.removesuffix(".__main__"), *arguments])
        return shlex.join(["python", program, *arguments])
    return shlex.join([name, *arguments])


def _when(text: str | None) -> str:
    return (text or "at an unknown time").replace("T", " ").replace("+00:00", " UTC")


def use(run: Run, prefix: str) -> list[blocks.Block]:
    """Returns commands to predict, evaluate and load, with the paths of this run."""
    best = run.best
    classifiers = [stage for stage in run.evaluated if IMAGE_CLASSIFIER in stage.files]
    if best not in classifiers:
        best = max(classifiers, key=lambda stage: stage.top1, default=None)
    found: list[blocks.Block] = []
    if best is not None:
        path = shlex.quote(_path(run, best))
        title = f"Classify images with the best classifier: {best.in_words}"
        found += [
            blocks.Code(title, f"simclrv2-tf predict {path} new_photos --output=classes.csv"),
            blocks.Code(
                "Measure it on other labelled images",
                f"simclrv2-tf evaluate {path} --dataset=other_photos",
            ),
        ]
    encoder = run.stage(PRETRAIN) or run.stages[0]
    if KERAS_FILES[0] in encoder.files:
        path = _path(run, encoder)
        found += [
            blocks.Code(
                "Embed images",
                f"simclrv2-tf predict {shlex.quote(path)} new_photos --embeddings=embeddings.npy",
            ),
            blocks.Code("Load the encoder in Keras", _keras(os.path.join(path, KERAS_FILES[0]))),
        ]
    modules = [
        os.path.join(_path(run, stage), file)
        for stage in run.stages
        for file in stage.files
        if file.startswith("hub/")
    ]
    if modules:
        found.append(blocks.Code("Load the SavedModel, without simclrv2_tf", _hub(modules[0])))
    if not found:
        return [blocks.Text("No stage has been exported yet.")]
    return found


def _path(run: Run, stage: Stage) -> str:
    return os.path.join(run.path, stage.folder) if stage.folder else run.path


def _keras(path: str) -> str:
    return f"""import keras
import simclrv2_tf.resnet, simclrv2_tf.heads  # register the layers

encoder = keras.saving.load_model({path!r})
representations = encoder(images, training=False)  # (B, S, S, C) in [0, 1] -> (B, f)"""


def _hub(path: str) -> str:
    return f"""import tensorflow_hub as hub

module = hub.load({path!r})
representations = module(images)  # float images (B, H, W, C) in [0, 1], of any size"""
