"""Networks as `.keras` files, and the ONNX and LiteRT files made from them."""

from __future__ import annotations

import importlib
import tempfile

from etils import epath, epy

from simclrv2_tf.errors import raised_as
from simclrv2_tf.export.model import ExportError, Model, ModelError

with epy.lazy_imports():
    import keras
    import numpy as np
    import tensorflow as tf

# The only output of a file, by the stem of its name.
_ENDPOINTS = {"encoder": "representation", "image_classifier": "logits"}


def keep_skipped_names() -> None:
    """Avoids the creation of a layer for each layer saved in a `.keras` file, for Keras 3.15.

    For each layer that it saves, Keras creates a new layer to list the attributes without weights.
    It intends to do so once per type of object, but stores the list as `saving_attr_skipset_KIND`
    and looks for `saving_attr_skiplist_KIND`. Other versions of Keras are not changed.
    """
    try:
        state = importlib.import_module("keras.src.backend.common.global_state")
        listed = importlib.import_module("keras.src.saving.saving_lib").get_attr_skipset
        for kind in ("Layer", "Functional"):
            state.set_global_attribute(f"saving_attr_skiplist_{kind}", listed(kind))
    except (ImportError, AttributeError, ValueError):
        return


def read(path: epath.Path) -> Model:
    """Reads a `.keras` file; the file's or the model's name determines its endpoint."""
    importlib.import_module("simclrv2_tf.resnet")  # registers its layers with Keras
    model = keras.saving.load_model(str(path), compile=False)
    shape = getattr(model, "input_shape", None) or ()
    takes_images = len(shape) == 4
    names = _endpoints(path, model.name) if takes_images else ()

    def outputs(images, names):
        return {name: model(images, training=False).numpy() for name in names}

    return Model.noted(path.parent, names, outputs, shape, model)


def read_onnx(path: epath.Path) -> Model:
    """Reads an ONNX file with the package onnxruntime."""
    try:
        import onnxruntime
    except ImportError:
        raise ModelError(
            "`model` needs the package onnxruntime, which is not installed: pip install "
            f"'simclrv2-tf[onnx]'. Received: model={path}"
        ) from None
    session = onnxruntime.InferenceSession(str(path))
    (given,) = session.get_inputs()

    def outputs(images, names):
        return {name: session.run(None, {given.name: images})[0] for name in names}

    return Model.noted(path.parent, _endpoints(path), outputs, given.shape)


def read_litert(path: epath.Path) -> Model:
    """Reads a LiteRT file, which takes images of one size."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        Interpreter = tf.lite.Interpreter
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    height, width = given["shape"][1:3]

    def outputs(images, names):
        if images.shape[1:3] != (height, width):
            raise ModelError(
                f"`image_size` must be {height}, the only size that {path} accepts. "
                f"Received: image_size={images.shape[1]}"
            )
        found = []
        for image in images:  # the file accepts one image at a time
            interpreter.set_tensor(given["index"], image[None])
            interpreter.invoke()
            found.append(interpreter.get_tensor(made["index"])[0])
        return dict.fromkeys(names, np.stack(found))

    return Model.noted(path.parent, _endpoints(path), outputs, given["shape"].tolist())


def write_onnx(source: epath.Path, path: epath.Path, image_size: int) -> None:
    """Writes the model of a `.keras` file as ONNX."""
    _convert(source, path, image_size, "onnx")


def write_litert(source: epath.Path, path: epath.Path, image_size: int) -> None:
    """Writes the model of a `.keras` file as LiteRT, for one image (1, S, S, C) at a time."""
    _convert(source, path, image_size, "litert")


def _convert(source, path, image_size, kind):
    model = keras.saving.load_model(str(source), compile=False)
    shape = (1, image_size, image_size, model.input_shape[-1])
    model(np.zeros(shape, np.float32))  # ONNX needs one call before it
    options = {}
    if kind == "litert":
        # Runtimes are optimized for one shape, and slow for others.
        signature = keras.InputSpec(shape=shape, dtype="float32", name="images")
        options["input_signature"] = [signature]
    # The exporters only write to local files.
    with tempfile.TemporaryDirectory() as folder:
        made = epath.Path(folder) / f"{source.stem}{path.suffix}"
        advice = f"All other files are written; leave {kind} out of --export_formats."
        with raised_as(ExportError, f"Keras could not write {made.name}", advice):
            model.export(str(made), format=kind, verbose=False, **options)
        made.copy(path, overwrite=True)


def _endpoints(path: epath.Path, model_name: str = "") -> tuple[str, ...]:
    """Returns the only output of a file, from the file's name or else the model's, or none."""
    names = [_ENDPOINTS[stem] for stem in (path.stem, model_name) if stem in _ENDPOINTS]
    return tuple(names[:1])
