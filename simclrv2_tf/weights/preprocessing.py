"""How the images of trained weights were prepared, by what was noted beside the weights."""

import json

from etils import epath

from simclrv2_tf.export.model import INPUTS


def antialiased(path: str) -> bool:
    """Whether weights were trained on images that are resized with antialiasing.

    The options of their run tell, or the notes of an export. Weights of the reference and of
    earlier versions of this package have no such note, and were trained without it.

    Args:
        path: Of weights to start from, or of a teacher, as `weights.load` and `teachers.load`
            take it. Nothing there counts as no note.
    """
    place = epath.Path(path)
    # A checkpoint is in RUN/checkpoints, a SavedModel in RUN/hub, a .keras file in RUN.
    for folder in (place, place / "assets", place.parent, place.parent.parent):
        for name in ("config.json", INPUTS):
            if (folder / name).is_file():
                return _noted(folder / name)
    return False


def _noted(file: epath.Path) -> bool:
    try:
        held = json.loads(file.read_text())
    except ValueError:  # whoever reads the weights says so
        return False
    return isinstance(held, dict) and held.get("antialias") is True
