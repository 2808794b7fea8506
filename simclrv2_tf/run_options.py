"""The options of the run that weights belong to, read without TensorFlow."""

from __future__ import annotations

import json
from typing import Any

from etils import epath

from simclrv2_tf.contents import IMAGE_CLASSIFIER, Contents
from simclrv2_tf.errors import UserError, raised_as

# Folders in a run whose entries are weights.
_BELOW = ("checkpoints", "hub")


class OptionsError(UserError):
    """A file that describes a run or a network, and cannot be read."""


def run_folder(path: str) -> epath.Path | None:
    """The folder of the run that weights belong to; None where they belong to none.

    Args:
        path: The run's folder (of several stages: the whole run's), a `.keras` file in it,
            one of its checkpoints, or its SavedModel hub/STEP.
    """
    place = epath.Path(path)
    above = [place.parent.parent] if place.parent.name in _BELOW else []
    return next(
        (at for at in (place, place.parent, *above) if (at / "config.json").is_file()), None
    )


def read(folder: epath.Path) -> dict[str, Any]:
    """The options of the run in a folder, as its `config.json` holds them.

    Raises:
        OptionsError: the file cannot be read, or holds no options.
    """
    return _object(folder / "config.json")


def of_network(path: str) -> tuple[str, dict[str, Any]]:
    """The file that describes the network at `path`, and what it says of it, by option.

    A run of several stages stands for its pretraining. An import has `import.json`. The file is ""
    and nothing is said where no such file is found.

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
            # Without a head these are 0, which is no value of the options.
            empty = [name for name in ("num_proj_layers", "proj_out_dim") if not found.get(name)]
            return str(report), {k: v for k, v in found.items() if k not in empty}
    return "", {}


def _object(file: epath.Path) -> dict[str, Any]:
    with raised_as(OptionsError, f"{file} cannot be read"):
        held = json.loads(file.read_text())
        if not isinstance(held, dict):
            raise TypeError(f"it holds no options but a {type(held).__name__}")
        return held


def whole_run(path: str, name: str) -> str | None:
    """What is wrong with `path` where one stage is needed and it is a whole run of several.

    Args:
        path: A run's folder.
        name: Of the option that needs the stage.
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
