"""How the images of trained weights were prepared, by what was noted beside the weights."""

import json
from typing import Any

from etils import epath

from simclrv2_tf import official
from simclrv2_tf.channels import RGB
from simclrv2_tf.export.model import INPUTS
from simclrv2_tf.weights import sources


def antialiased(path: str) -> bool:
    """Whether weights were trained on images that are resized with antialiasing.

    The options of their run tell, or the notes of an export. Weights of the reference and of
    earlier versions of this package have no such note, and were trained without it.

    Args:
        path: Of weights to start from, or of a teacher, as `weights.load` and `teachers.load`
            take it. Nothing there counts as no note.
    """
    return (_noted(path) or {}).get("antialias") is True


def channels(path: str) -> int:
    """The channels of the images that weights were trained on.

    The notes tell, or the first convolution. Notes of earlier versions of this package do not say
    them, and mean 3, as do weights that the reference released.

    Args:
        path: Of weights to start from, as `weights.load` takes it.

    Raises:
        CheckpointError: no weights there, or unreadable ones.
    """
    if official.resolve(path)[1] is not None:
        return RGB
    if (held := _noted(path)) is not None:
        noted = held.get("channels", RGB)
        return noted if isinstance(noted, int) else RGB
    shapes = sources.shapes(path)
    return next((shapes[name][2] for name in sources.FIRST if name in shapes), RGB)


def _noted(path: str) -> dict[str, Any] | None:
    """What is noted beside weights; None where nothing is."""
    place = epath.Path(path)
    # A checkpoint is in RUN/checkpoints, a SavedModel in RUN/hub, a .keras file in RUN.
    for folder in (place, place / "assets", place.parent, place.parent.parent):
        for name in ("config.json", INPUTS):
            if (folder / name).is_file():
                return _read(folder / name)
    return None


def _read(file: epath.Path) -> dict[str, Any]:
    try:
        held = json.loads(file.read_text())
    except ValueError:  # whoever reads the weights says so
        return {}
    return held if isinstance(held, dict) else {}
