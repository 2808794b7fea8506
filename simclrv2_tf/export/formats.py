"""The table of export formats: how to write and read the files of each format."""

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
        suffix: Suffix of its file names.
        read: Reads a file, or a folder of a SavedModel.
        write: Writes a file, `write(source, path, image_size)`; None for formats that are written
            from the networks themselves.
        source: The format of the file that it is made from.
        packages: The packages that writing it needs.
        extra: The extra of `setup.py` that installs them.
        check: Raises an `ExportError` if a network with the given options cannot be written.
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
        """Returns the file of this format for the file or folder `source`."""
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
        # Must precede the row of the shorter suffix.
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
    """Returns the format of a file from its suffix, or None."""
    rows = (row for row in FORMATS.values() if row.suffix and path.name.endswith(row.suffix))
    return next(rows, None)


def load_model(path: str, option: str = "model", *, encoder: bool = False) -> Model:
    """Loads a network from any file of `FORMATS`.

    Args:
        path: The folder of a run or an import, from which the newest SavedModel is loaded, or else
            the .keras file of the whole network; the folder of a SavedModel or its tar.gz; a
            .keras, .onnx or .tflite file.
        option: The option with this path, for errors.
        encoder: Whether to load the encoder's .keras file instead of the whole network's, which has
            no representation.

    Raises:
        ModelError: there is no such file, it cannot be read, or its runtime is not installed.
        SumError: the file differs from the exported one, according to its checksum.
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
    """Suggests another path for one without an export, if possible."""
    if runs := contents.runs[:3]:
        return f" It contains {', '.join(runs)}."
    if contents.kind == "run":
        return ". It has no exports yet: rerun its command to resume it; the end of the run exports"
    run = run_options.run_folder(contents.path)
    return f". It is a checkpoint: give the folder of its run, {run}" if run is not None else ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportOptions(options.Group, title="Export", incidental=True):
    """Which exports of a run's networks to write and keep."""

    export_formats: tuple[str, ...] | None = option(
        None,
        "Formats to write in addition to the .keras files, separated by commas. saved_model "
        "(default; in a run of several stages, only for pretraining): for TF Hub. tar.gz: also the "
        "SavedModel as one file, which TF Hub loads from a URL. onnx (needs 'simclrv2-tf[onnx]'), "
        "litert: the encoder, or the whole image classifier, in these formats. safetensors: only "
        "its weights; torchvision: the weights with the names of torchvision's ResNet-50, 101 or "
        "152 (both need 'simclrv2-tf[safetensors]'). To add formats to a finished run, rerun its "
        "command with this flag; nothing is trained again.",
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
        ExportError: a package is missing, or a format does not support the network.
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
