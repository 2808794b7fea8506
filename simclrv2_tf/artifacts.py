"""The files of trained networks: Keras's, the SavedModel with its card, and other formats.

Below the directory of a run, and of what `python -m simclrv2_tf.official` imports:

    encoder.keras, head.keras, classifier.keras   the networks that there are
    image_classifier.keras                        with a classifier: images to logits
    labels.txt, inputs.json                       class names; the images' side
    hub/NAME/                                     the SavedModel of `export.export`, README.md in it
    hub/NAME.tar.gz                               and, where they are asked for: all of that folder,
    encoder.onnx or image_classifier.onnx         ONNX, of the .keras file,
    encoder.tflite or image_classifier.tflite     and LiteRT
"""

from __future__ import annotations

import dataclasses
import importlib.util
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf
from etils import epath

from simclrv2_tf.config import EXPORT_FORMATS
from simclrv2_tf.export import INPUTS_FILE, LABELS_FILE, export, inputs_json
from simclrv2_tf.networks import Networks

_ARCHIVE, _ONNX, _LITERT = EXPORT_FORMATS
_SUFFIXES = {_ONNX: ".onnx", _LITERT: ".tflite"}
_PACKAGES = {_ONNX: ("onnx", "tf2onnx")}


class ExportError(ValueError):
    """An export that cannot be written as asked; the message is meant for the user."""


def check_formats(formats: Sequence[str]) -> None:
    """Checks that what writes `formats` is installed.

    Raises:
        ExportError: it is not.
    """
    for name in formats:
        missing = [p for p in _PACKAGES.get(name, ()) if importlib.util.find_spec(p) is None]
        if missing:
            raise ExportError(
                f"`export_formats` with {name} needs the package(s) {', '.join(missing)}, which "
                f"are not installed: pip install 'simclrv2-tf[onnx]'. "
                f"Received: export_formats={','.join(formats)}"
            )


@dataclasses.dataclass(frozen=True)
class Artifacts:
    """The files below one directory.

    Args:
        directory: Where they are.
        name: Of the SavedModel, such as the number of its last step.
        labelled: Whether the networks are a way from images to logits.
        formats: Of `config.EXPORT_FORMATS`, what is written beside the SavedModel.
    """

    directory: epath.Path
    name: str
    labelled: bool
    formats: Sequence[str] = ()

    @property
    def module(self) -> epath.Path:
        """The folder of the SavedModel."""
        return self.directory / "hub" / self.name

    @property
    def archive(self) -> epath.Path:
        """The archive of it."""
        return self.directory / "hub" / f"{self.name}.tar.gz"

    def write(
        self, networks: Networks, image_size: int, class_names: Sequence[str], anew: bool = True
    ) -> None:
        """Writes the `.keras` files and the SavedModel, each whole or not at all.

        Args:
            networks: In float32, and not a strategy's.
            image_size: Side of the images they were trained with.
            class_names: What the logits stand for; empty where nobody knows.
            anew: Whether files that are there are of other weights, and replaced.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        for path in (*self._converted().values(), self.archive):
            if anew:
                path.unlink(missing_ok=True)
        for name, path in self._keras_files(networks).items():
            if anew or not path.exists():
                unfinished = _unfinished(path)
                _model(networks, name).save(unfinished)
                unfinished.replace(path)
        (self.directory / INPUTS_FILE).write_text(inputs_json(image_size))
        if class_names:
            (self.directory / LABELS_FILE).write_text("".join(f"{n}\n" for n in class_names))
        if not anew and self.module.exists():
            return
        unfinished = _unfinished(self.module)
        if unfinished.exists():
            unfinished.rmtree()
        export(
            str(unfinished),
            networks.encoder,
            networks.head,
            networks.classifier,
            networks.classifier_layer,
            output="logits" if self.labelled else "representation",
            image_size=image_size,
            class_names=class_names,
        )
        if self.module.exists():
            self.module.rmtree()
        unfinished.rename(self.module)

    def written(self, networks: Networks) -> bool:
        """Whether all that `write` makes of `networks` is there."""
        files = [*self._keras_files(networks).values(), self.module]
        return all(path.exists() for path in files)

    def finish(self, card: str | None, image_size: int) -> None:
        """Writes what is made of the files: the model card and the other formats.

        Args:
            card: For the SavedModel's folder; None leaves the one there is.
            image_size: As for `write`.

        Raises:
            ExportError: Keras cannot write a format. All other files are there.
        """
        if card is not None:
            (self.module / "README.md").write_text(card)
        if _ARCHIVE in self.formats:
            _archive(self.module, self.archive)
        for kind, path in self._converted().items():
            if kind in self.formats and not path.exists():
                _convert(self._source, path, kind, image_size)

    def finished(self) -> bool:
        """Whether the SavedModel and every format that is asked for are there."""
        wanted = [path for kind, path in self._converted().items() if kind in self.formats]
        wanted += [self.module] + [self.archive] * (_ARCHIVE in self.formats)
        return all(path.exists() for path in wanted)

    def remove_older(self, keep: int) -> None:
        """Removes SavedModels of other steps but the newest, `keep` in all; 0 keeps all."""
        others = [p for p in self.module.parent.iterdir() if p.name.isdigit()]
        others = sorted((p for p in others if p != self.module), key=lambda p: -int(p.name))
        for old in others[keep - 1 :] if keep else ():
            dataclasses.replace(self, name=old.name).archive.unlink(missing_ok=True)
            old.rmtree()

    @property
    def _source(self) -> epath.Path:
        """The file that other formats are made of."""
        return self.directory / f"{'image_classifier' if self.labelled else 'encoder'}.keras"

    def _converted(self) -> Mapping[str, epath.Path]:
        return {kind: self._source.with_suffix(suffix) for kind, suffix in _SUFFIXES.items()}

    def _keras_files(self, networks: Networks) -> Mapping[str, epath.Path]:
        names = [*networks.models] + ["image_classifier"] * self.labelled
        return {name: self.directory / f"{name}.keras" for name in names}


def _model(networks: Networks, name: str) -> keras.Model:
    return networks.image_classifier() if name == "image_classifier" else networks.models[name]


def _unfinished(path: epath.Path) -> epath.Path:
    return path.parent / f"unfinished-{path.name}"


def _convert(source: epath.Path, path: epath.Path, kind: str, image_size: int) -> None:
    model = keras.saving.load_model(str(source), compile=False)
    model(np.zeros((1, image_size, image_size, 3), np.float32))  # ONNX's wants it called once
    signature = None
    if kind == _LITERT:
        # Its runtimes are made for one shape; with others they leave their fast kernels.
        shape = (1, image_size, image_size, 3)
        signature = [keras.InputSpec(shape=shape, dtype="float32", name="images")]
    # The exporters know this machine's files only.
    with tempfile.TemporaryDirectory() as folder:
        made = epath.Path(folder) / path.name
        try:
            model.export(str(made), format=kind, input_signature=signature, verbose=False)
        except Exception as error:  # whatever the converters raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ExportError(
                f"Keras could not write {path.name} ({reason}). All other files are there; leave "
                f"{kind} out of --export_formats."
            ) from error
        made.copy(_unfinished(path), overwrite=True)
    _unfinished(path).replace(path)


def _archive(folder: epath.Path, path: epath.Path) -> None:
    """Packs what is in `folder`, without the folder itself: so TF Hub wants it."""
    unfinished = _unfinished(path)
    with unfinished.open("wb") as file, tarfile.open(fileobj=file, mode="w:gz") as packed:
        for member in _below(folder):
            info = tarfile.TarInfo(str(member.relative_to(folder)))
            if member.is_dir():
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                packed.addfile(info)
                continue
            info.size = tf.io.gfile.stat(str(member)).length
            with member.open("rb") as content:
                packed.addfile(info, content)
    unfinished.replace(path)


def _below(folder: epath.Path) -> Iterator[epath.Path]:
    for member in sorted(folder.iterdir()):
        yield member
        if member.is_dir():
            yield from _below(member)
