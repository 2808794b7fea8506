"""Reads the options of the run that weights belong to, without TensorFlow."""

from __future__ import annotations

import json
from typing import Any

from etils import epath

from simclrv2_tf.contents import IMAGE_CLASSIFIER, Contents
from simclrv2_tf.errors import UserError, raised_as

# Folders in a run whose entries are weights.
_BELOW = ("checkpoints", "hub")


class OptionsError(UserError):
    """Raised for a file of a run's or a network's options that cannot be read."""


def run_folder(path: str) -> epath.Path | None:
    """Returns the folder of the run that weights belong to, or None.

    Args:
        path: The run's folder (with several stages: of the whole run), a `.keras` file in it,
            one of its checkpoints, or its SavedModel hub/STEP.
    """
    place = epath.Path(path)
    above = [place.parent.parent] if place.parent.name in _BELOW else []
    return next(
        (at for at in (place, place.parent, *above) if (at / "config.json").is_file()), None
    )


def read(folder: epath.Path) -> dict[str, Any]:
    """Returns the options of the run in a folder, from its `config.json`.

    Raises:
        OptionsError: the file cannot be read, or holds no options.
    """
    return _object(folder / "config.json")


def of_network(path: str) -> tuple[str, dict[str, Any]]:
    """Returns the file that describes the network at `path`, and its options.

    For a run of several stages, these describe its pretraining. An import has `import.json`.
    Without such a file, the name is "" and there are no options.

    Raises:
        OptionsError: the file cannot be read, or holds no options.
    """
    if Contents(path).kind == "stages":
        path = f"{path}/pretrain"
    if folder := run_folder(path):
        return str(folder / "config.json"), read(folder)
    place = epath.Path(path)
    for folder in (place, place.parent):
        if (report := folder / "import.json").is_file():
            held = _object(report)
            found = {**held.get("architecture", {}), "image_size": held.get("image_size", 224)}
            # Without a head these are 0, which the options do not allow.
            empty = [name for name in ("num_proj_layers", "proj_out_dim") if not found.get(name)]
            return str(report), {k: v for k, v in found.items() if k not in empty}
    return "", {}


def _object(file: epath.Path) -> dict[str, Any]:
    with raised_as(OptionsError, f"{file} cannot be read"):
        held = json.loads(file.read_text())
        if not isinstance(held, dict):
            raise TypeError(f"it holds a {type(held).__name__}, not options")
        return held


def whole_run(path: str, name: str) -> str | None:
    """Returns an error if `path` is a whole run of several stages but one stage is needed.

    Args:
        path: A run's folder.
        name: The option that needs the stage.
    """
    contents = Contents(path)
    if contents.kind != "stages":
        return None
    stages = [str(at) for at in contents.below if (at / IMAGE_CLASSIFIER).exists()]
    fine_tuned = [stage for stage in stages if stage.endswith("fine_tuned")]
    example = [*stages, *fine_tuned][-1] if stages else "label_fraction_0.1/fine_tuned in it"
    return (
        f"`{name}` must be one stage of a run of several, such as {example}. "
        f"Received: {name}={path}, the whole run"
    )
