"""The SavedModel as one file, a tar.gz, as TF Hub loads it from an address."""

from __future__ import annotations

import dataclasses
import tarfile
import tempfile
from collections.abc import Iterator

from etils import epath, epy

from simclrv2_tf.export import saved_model
from simclrv2_tf.export.model import Model

with epy.lazy_imports():
    import tensorflow as tf


def write(folder: epath.Path, path: epath.Path, image_size: int) -> None:
    """Packs the contents of `folder`, without the folder itself, as TF Hub expects."""
    del image_size
    with path.open("wb") as file, tarfile.open(fileobj=file, mode="w:gz") as packed:
        for member in _below(folder):
            info = tarfile.TarInfo(str(member.relative_to(folder)))
            if member.is_dir():
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                packed.addfile(info)
                continue
            info.size = tf.io.gfile.stat(str(member)).length
            with member.open("rb") as content:
                packed.addfile(info, content)


def read(path: epath.Path) -> Model:
    """Reads the SavedModel in an archive."""
    folder = tempfile.TemporaryDirectory()
    with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:gz") as packed:
        packed.extractall(folder.name, filter="data")
    model = saved_model.read(epath.Path(folder.name))
    # The folder is removed with the last reference to it: not before the model.
    model.outputs.folder = folder
    return dataclasses.replace(model, loaded=None)


def _below(folder: epath.Path) -> Iterator[epath.Path]:
    for member in sorted(folder.iterdir()):
        yield member
        if member.is_dir():
            yield from _below(member)
