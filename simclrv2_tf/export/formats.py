"""The formats of exported networks, a row each: how a file is written, and how it is read."""

import dataclasses
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

from etils import epath

from simclrv2_tf import options, run_options, sums
from simclrv2_tf.contents import Contents
from simclrv2_tf.errors import raised_as
from simclrv2_tf.export import keras_file, safetensors_file, saved_model
from simclrv2_tf.export.model import INPUTS, ExportError, Model, ModelError
from simclrv2_tf.options import option


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of exported networks.

    Attributes:
        name: Its name in `--export_formats`.
        suffix: Ends the names of its files.
        read: Reads a file, or a folder of a SavedModel.
        write: Writes a file, `write(source, path, image_size)`; None for the formats that are
            written from the networks themselves.
        source: The format of the file that it is made of.
        packages: The packages that writing it needs.
        extra: The extra of `setup.py` that installs them.
        check: Raises an `ExportError` where a network of given options cannot be written.
    """

    name: str
    suffix: str
    read: Callable[[epath.Path], Model]
    write: Callable[[epath.Path, epath.Path, int], None] | None = None
    source: str = "keras"
    packages: tuple[str, ...] = ()
    extra: str = ""
    check: Callable[[Any], None] | None = None

    def path(self, source: epath.Path) -> epath.Path:
        """The file of this format that is made of the file or folder `source`."""
        return source.parent / (source.name.removesuffix(".keras") + self.suffix)


FORMATS = {
    row.name: row
    for row in (
        Format("keras", ".keras", keras_file.read),
        Format("saved_model", "", saved_model.read),
        Format(
            "tar.gz",
            ".tar.gz",
            saved_model.read_archive,
            saved_model.write_archive,
            source="saved_model",
        ),
        Format(
            "onnx",
            ".onnx",
            keras_file.read_onnx,
            keras_file.write_onnx,
            packages=("onnx", "tf2onnx"),
            extra="onnx",
        ),
        Format("litert", ".tflite", keras_file.read_litert, keras_file.write_litert),
        # Before the row of the shorter suffix.
        Format(
            "torchvision",
            ".torchvision.safetensors",
            safetensors_file.read,
            safetensors_file.write_torchvision,
            packages=("safetensors",),
            extra="safetensors",
            check=safetensors_file.check_torchvision,
        ),
        Format(
            "safetensors",
            ".safetensors",
            safetensors_file.read,
            safetensors_file.write,
            packages=("safetensors",),
            extra="safetensors",
        ),
    )
}
EXPORT_FORMATS = tuple(FORMATS)
DEFAULT_FORMATS = ("saved_model",)


def of_file(path: epath.Path) -> Format | None:
    """The format of a file by the suffix of its name, or None."""
    rows = (row for row in FORMATS.values() if row.suffix and path.name.endswith(row.suffix))
    return next(rows, None)


def load_model(path: str, option: str = "model", *, encoder: bool = False) -> Model:
    """Loads a network from any file of `FORMATS`.

    Args:
        path: The folder of a run or of an import, whose newest SavedModel is loaded, or without
            one its .keras file of the whole network; the folder of a SavedModel or its tar.gz; a
            .keras, .onnx or .tflite file.
        option: What errors call the path.
        encoder: Whether the .keras file of the encoder is loaded in place of that of the whole
            network, which gives no representation.

    Raises:
        ModelError: there is no such file, it cannot be read, or its runtime is not installed.
        SumError: it is not the file that was exported, by the sums beside it.
    """
    contents = Contents(path)
    found = epath.Path(path) if contents.kind == "file" else contents.saved_model
    if found is None and contents.kind in ("run", "files"):
        whole = None if encoder else contents.image_classifier
        found = whole or next(iter(contents.keras_files), contents.image_classifier)
    is_module = found is not None and found == contents.saved_model
    row = FORMATS["saved_model"] if is_module else found and of_file(found)
    if found is None or row is None:
        raise ModelError(
            f"`{option}` must be a run's folder, a SavedModel's folder or tar.gz, or a .keras, "
            f".onnx or .tflite file. Received: {option}={path}{_advice(contents)}"
        )
    if is_module:
        sums.check(found)
    else:
        sums.check(found.parent, (found.name, INPUTS))
    advice = f"Received: {option}={path}"
    with raised_as(ModelError, f"`{option}` must be readable", advice):
        return row.read(found)


def _advice(contents: Contents) -> str:
    """What to give in place of a path that holds no export, where that can be told."""
    if runs := contents.runs[:3]:
        return f" In it there are {', '.join(runs)}."
    if contents.kind == "run":
        return ". It has no exports yet: its own command resumes it, and exports at its end"
    run = run_options.run_folder(contents.path)
    return f". It is a checkpoint: give the folder of its run, {run}" if run is not None else ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportOptions(options.Group, title="Export", incidental=True):
    """What is exported of a run's networks, and kept."""

    export_formats: tuple[str, ...] | None = option(
        None,
        "What to write, with commas between; the .keras files always are. saved_model (default; in "
        "a run of several stages, of its pretraining alone): for TF Hub. tar.gz: the SavedModel "
        "also as one file, as TF Hub loads it from an address. onnx (needs 'simclrv2-tf[onnx]'), "
        "litert: the encoder, or the whole image classifier, in these formats. safetensors: its "
        "weights alone; torchvision: as torchvision's ResNet-50, 101 or 152 names them (both need "
        "'simclrv2-tf[safetensors]'). A finished run is "
        "given more formats by its own command with this flag; nothing is trained again.",
        choices=EXPORT_FORMATS,
    )
    keep_hub_module_max: int = option(
        1,
        "Newest exported SavedModels to keep; 0: all, as in the reference.",
        minimum=0,
    )


def check_formats(formats: Sequence[str], network: Any = None) -> None:
    """Checks that `formats` can be written.

    Args:
        formats: Names of `FORMATS`.
        network: The options of the network, see `Format.check`; None: not known yet.

    Raises:
        ExportError: a package is missing, or a format has no such network.
    """
    for row in map(FORMATS.__getitem__, formats):
        missing = [p for p in row.packages if importlib.util.find_spec(p) is None]
        if missing:
            raise ExportError(
                f"`export_formats` with {row.name} needs the package(s) {', '.join(missing)}, "
                f"which are not installed: pip install 'simclrv2-tf[{row.extra}]'. "
                f"Received: export_formats={','.join(formats)}"
            )
        if row.check and network is not None:
            row.check(network)
