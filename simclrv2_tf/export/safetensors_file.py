"""The weights of a network, without its graph, as safetensors for other frameworks.

`encoder.safetensors` or `image_classifier.safetensors` holds each variable in Keras's layout, by
`LAYER/VARIABLE`, such as `block_group1_block0_conv1/kernel` (height, width, in, out) or
`stem_bn/moving_variance`. All are float32. The metadata has `image_size`, the side of the training
images in pixels.

`*.torchvision.safetensors` holds the variables of a ResNet-50, 101 or 152 with the names and the
layout of `torchvision.models`; `docs/tf_hub.md` shows how to load it.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath, epy

from simclrv2_tf.channels import RGB
from simclrv2_tf.export.model import ExportError, Model, ModelError
from simclrv2_tf.network_options import BLOCKS, stem_of

with epy.lazy_imports():
    import keras
    import numpy as np
    import safetensors.numpy

_TORCHVISION_DEPTHS = (50, 101, 152)
_STEM = (7, 7, RGB, 64)
_BATCH_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def write(source: epath.Path, unfinished: epath.Path, image_size: int) -> None:
    """Writes the weights of a `.keras` file."""
    _save(dict(_named(_load(source))), unfinished, image_size)


def write_torchvision(source: epath.Path, unfinished: epath.Path, image_size: int) -> None:
    """Writes the weights of a `.keras` file with torchvision's names.

    Raises:
        ExportError: torchvision has no such network.
    """
    _save(torchvision_state(_load(source)), unfinished, image_size)


def read(path: epath.Path) -> Model:
    """Raises an error: such a file has no graph to run."""
    raise ModelError(
        "`model` must be a file with a graph, but a safetensors file only holds weights. Give the "
        f".keras file from which it was made. Received: model={path}"
    )


def check_torchvision(options: Any) -> None:
    """Checks that torchvision has a network with these options.

    Args:
        options: Any object with the fields of `NetworkOptions`, `image_size` and `channels`.

    Raises:
        ExportError: torchvision has no such network.
    """
    found = {
        "resnet_depth": options.resnet_depth,
        "width_multiplier": options.width_multiplier,
        "sk_ratio": options.sk_ratio,
        "se_ratio": options.se_ratio,
        "stem": stem_of(options.stem, options.image_size),
        "channels": options.channels,
    }
    wanted = {
        "width_multiplier": 1,
        "sk_ratio": 0,
        "se_ratio": 0,
        "stem": "imagenet",
        "channels": RGB,
    }
    wrong = [name for name, value in wanted.items() if found[name] != value]
    if options.resnet_depth not in _TORCHVISION_DEPTHS:
        wrong.insert(0, "resnet_depth")
    if wrong:
        raise ExportError(_rule("; ".join(f"{name}={found[name]}" for name in wrong)))


def torchvision_state(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns the weights of a network by the names of torchvision's ResNet.

    Convolutions are (out, in, height, width), dense layers (out, in). A network with a classifier
    has `fc.weight` and `fc.bias`. With k layers of the projection head in between, these become
    `fc.0.weight`, `fc.1.weight` (dense, batch norm), `fc.3.weight` and so on, as in an
    `nn.Sequential` with a ReLU after each batch norm.

    Args:
        model: Model from images to representations or logits: ResNet-50, 101 or 152 of width 1 with
            the stem "imagenet", without selective kernels and squeeze-excitation.

    Raises:
        ExportError: the network is not one of these.
    """
    found = dict(_named(model))
    names = dict(_torchvision_names(found))
    if set(names) != set(found):
        other = next(iter(sorted(set(found) ^ set(names))))
        raise ExportError(_rule(f"a network with {'' if other in found else 'no '}{other}"))
    if found["stem_conv/kernel"].shape != _STEM:
        raise ExportError(_rule(f"a first convolution of {found['stem_conv/kernel'].shape}"))
    return {names[name]: _as_torch(value) for name, value in found.items()}


def _rule(received: str) -> str:
    return (
        "`export_formats` with torchvision needs a network that torchvision has: ResNet-50, 101 or "
        "152 of width 1 with --stem=imagenet, for RGB, without selective kernels and "
        f"squeeze-excitation. Leave torchvision out of --export_formats. Received: {received}"
    )


def _load(source: epath.Path) -> keras.Model:
    importlib.import_module("simclrv2_tf.resnet")  # its layers, which are then known to Keras
    return keras.saving.load_model(str(source), compile=False)


def _named(model: keras.Model) -> Iterator[tuple[str, np.ndarray]]:
    """Returns the variables of a model and its nested models, by `LAYER/VARIABLE`."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _named(layer)
            continue
        for variable in layer.weights:
            yield f"{layer.name}/{variable.name}", np.asarray(variable.numpy(), np.float32)


def _save(tensors: Mapping[str, np.ndarray], unfinished: epath.Path, image_size: int) -> None:
    whole = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    unfinished.write_bytes(safetensors.numpy.save(whole, {"image_size": str(image_size)}))


def _torchvision_names(found: Mapping[str, np.ndarray]) -> Iterator[tuple[str, str]]:
    """Yields our name and torchvision's for each variable of a network with these blocks."""

    def conv_bn(prefix: str, number: str, conv: str, bn: str) -> Iterator[tuple[str, str]]:
        yield f"{prefix}_conv{number}/kernel", f"{conv}.weight"
        for own, theirs in _BATCH_NORM.items():
            yield f"{prefix}_bn{number}/{own}", f"{bn}.{theirs}"

    yield from conv_bn("stem", "", "conv1", "bn1")
    for group, blocks in enumerate(_blocks(found), start=1):
        for block in range(blocks):
            own, theirs = f"block_group{group}_block{block}", f"layer{group}.{block}"
            for number in ("1", "2", "3"):
                yield from conv_bn(own, number, f"{theirs}.conv{number}", f"{theirs}.bn{number}")
            if block == 0:
                shortcut = f"{theirs}.downsample"
                yield from conv_bn(f"{own}_shortcut", "", f"{shortcut}.0", f"{shortcut}.1")
    layers = sum(name.endswith("_dense/kernel") for name in found)
    for layer in range(layers):
        yield f"projection{layer + 1}_dense/kernel", f"fc.{3 * layer}.weight"
        for own, theirs in _BATCH_NORM.items():
            yield f"projection{layer + 1}_bn/{own}", f"fc.{3 * layer + 1}.{theirs}"
    if "classifier/kernel" in found:
        last = f"fc.{3 * layers}" if layers else "fc"
        yield "classifier/kernel", f"{last}.weight"
        yield "classifier/bias", f"{last}.bias"


def _blocks(found: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    """Returns the blocks of the four stages, for the depth with this number in the third stage."""
    third = sum(
        name.startswith("block_group3_") and name.endswith("_conv1/kernel") for name in found
    )
    depths = (BLOCKS[depth] for depth in _TORCHVISION_DEPTHS)
    return next((blocks for blocks in depths if blocks[2] == third), BLOCKS[_TORCHVISION_DEPTHS[0]])


def _as_torch(value: np.ndarray) -> np.ndarray:
    """Returns a kernel with the outputs first; other variables unchanged."""
    if value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    return value.T if value.ndim == 2 else value
