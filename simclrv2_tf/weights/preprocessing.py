"""How the images of trained weights were prepared, from metadata alongside the weights."""

import json
from typing import Any

from etils import epath

from simclrv2_tf import official
from simclrv2_tf.channels import RGB
from simclrv2_tf.export.model import INPUTS
from simclrv2_tf.weights import sources


def antialiased(path: str) -> bool:
    """Whether weights were trained on images that are resized with antialiasing.

    Reads the options of their run, or the metadata of an export. Weights of the reference and of
    earlier versions of this package have no such metadata, and were trained without antialiasing.

    Args:
        path: Path of starting weights, or of a teacher, as for `weights.load` and `teachers.load`.
            A missing path counts as no metadata.
    """
    return (_noted(path) or {}).get("antialias") is True


def channels(path: str) -> int:
    """Returns the channels of the images that weights were trained on.

    Reads the metadata, or the first convolution. Metadata of earlier versions of this package lack
    the channels and stand for 3, like weights released by the reference.

    Args:
        path: Path of starting weights, as for `weights.load`.

    Raises:
        CheckpointError: the weights are missing or unreadable.
    """
    if official.resolve(path)[1] is not None:
        return RGB
    if (held := _noted(path)) is not None:
        noted = held.get("channels", RGB)
        return noted if isinstance(noted, int) else RGB
    shapes = sources.shapes(path)
    return next((shapes[name][2] for name in sources.FIRST if name in shapes), RGB)


def _noted(path: str) -> dict[str, Any] | None:
    """Returns the metadata alongside weights, or None."""
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
    except ValueError:  # reported when the weights are read
        return {}
    return held if isinstance(held, dict) else {}
