"""Weights as safetensors: their names and layouts."""

import dataclasses

import keras
import numpy as np
import pytest
from etils import epath
from safetensors import safe_open
from safetensors.numpy import load_file

from helpers.drawn import classifier_of
from simclrv2_tf.export import ExportError, ModelError, formats, safetensors_file
from simclrv2_tf.export.artifacts import Artifacts
from simclrv2_tf.networks import Networks
from simclrv2_tf.resnet import resnet


@dataclasses.dataclass
class Options:
    resnet_depth: int = 50
    width_multiplier: float = 1.0
    sk_ratio: float = 0.0
    se_ratio: float = 0.0
    stem: str = "auto"
    image_size: int = 224
    channels: int = 3


def names_of_torchvision(blocks, layers=0, classes=True):
    """The names of a state dict, written out from torchvision's modules."""
    norm = ("weight", "bias", "running_mean", "running_var")
    names = ["conv1.weight", *(f"bn1.{n}" for n in norm)]
    for stage, count in enumerate(blocks, 1):
        for block in range(count):
            for number in (1, 2, 3):
                names += [f"layer{stage}.{block}.conv{number}.weight"]
                names += [f"layer{stage}.{block}.bn{number}.{n}" for n in norm]
        names += [f"layer{stage}.0.downsample.0.weight"]
        names += [f"layer{stage}.0.downsample.1.{n}" for n in norm]
    for layer in range(layers):
        names += [f"fc.{3 * layer}.weight", *(f"fc.{3 * layer + 1}.{n}" for n in norm)]
    if classes:
        last = f"fc.{3 * layers}." if layers else "fc."
        names += [f"{last}weight", f"{last}bias"]
    return names


def test_every_variable_is_in_the_file_by_its_layer(tmp_path):
    encoder = resnet(10, 0.0625, image_size=16)
    model = classifier_of(encoder, 1)
    source, path = epath.Path(tmp_path / "image_classifier.keras"), tmp_path / "a.safetensors"
    model.save(source)
    safetensors_file.write(source, epath.Path(path), 16)
    held = load_file(path)
    found = {}
    for layer in [
        *model.layers,
        *(inner for m in model.layers for inner in getattr(m, "layers", [])),
    ]:
        if not isinstance(layer, keras.Model):
            found |= {f"{layer.name}/{v.name}": v.numpy() for v in layer.weights}
    assert held.keys() == found.keys() and len(held) == len(model.weights)
    for name, value in found.items():
        assert held[name].dtype == np.float32
        np.testing.assert_array_equal(held[name], value)
    assert held["stem_conv/kernel"].shape == (3, 3, 3, 4)


@pytest.mark.parametrize(
    ("depth", "layer", "blocks"), [(50, 1, (3, 4, 6, 3)), (101, 0, (3, 4, 23, 3))]
)
def test_torchvision_names_every_variable(depth, layer, blocks):
    """Narrow in tests: the width is read from the first convolution, which has width 1 here."""
    encoder = resnet(depth, 1 / 32, stem="imagenet")
    model = classifier_of(encoder, layer)
    state = torchvision_state(model)
    assert set(state) == set(names_of_torchvision(blocks, layers=layer))
    own = {f"{v.path}": v.numpy() for v in model.weights}
    kernel = own["block_group2_block0_conv2/kernel"]
    theirs = state["layer2.0.conv2.weight"]
    for i, j, out in np.ndindex(3, 3, kernel.shape[-1]):
        np.testing.assert_array_equal(theirs[out, :, i, j], kernel[i, j, :, out])
    np.testing.assert_array_equal(
        state["layer3.0.downsample.1.running_var"],
        own["block_group3_block0_shortcut_bn/moving_variance"],
    )
    last = state["fc.3.weight" if layer else "fc.weight"]
    np.testing.assert_array_equal(last.T, model.get_layer("classifier_model").get_weights()[0])


def torchvision_state(model):
    """Of a narrow network, as if torchvision's first convolution were its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(safetensors_file, "_STEM", tuple(model.get_layer("stem_conv").kernel.shape))
        return safetensors_file.torchvision_state(model)


@pytest.mark.parametrize(
    ("given", "received"),
    [
        (dict(resnet_depth=34), "resnet_depth=34"),
        (dict(resnet_depth=200, width_multiplier=2.0), "resnet_depth=200; width_multiplier=2.0"),
        (dict(sk_ratio=0.0625), "sk_ratio=0.0625"),
        (dict(se_ratio=0.25, channels=5), "se_ratio=0.25; channels=5"),
        (dict(image_size=32), "stem=cifar"),
        (dict(stem="stride2"), "stem=stride2"),
    ],
)
def test_other_networks_are_refused_before_any_work(given, received):
    with pytest.raises(ExportError, match="a network that torchvision has") as caught:
        formats.check_formats(["torchvision"], Options(**given))
    assert str(caught.value).endswith(f"Received: {received}")
    formats.check_formats(["torchvision", "safetensors"], Options(image_size=32, stem="imagenet"))
    formats.check_formats(["safetensors"], Options(**given))


@pytest.mark.parametrize(
    ("given", "received"),
    [
        (dict(depth=18), "a network with no block_group1_block0_bn3/beta"),
        (dict(sk_ratio=0.0625), "a network with .*"),
        (dict(se_ratio=0.25), "a network with block_group1_block0_se_expand/bias"),
        (dict(stem="stride2"), "a network with .*stem_.*"),
        (dict(), r"a first convolution of \(7, 7, 3, 2\)"),
    ],
)
def test_files_of_other_networks_are_refused(given, received):
    depth = given.pop("depth", 50)
    encoder = resnet(depth, 1 / 32, **{"stem": "imagenet", **given})
    with pytest.raises(ExportError, match=f"torchvision has: .*Received: {received}"):
        safetensors_file.torchvision_state(encoder)


def test_a_file_of_weights_is_no_model(tmp_path):
    path = tmp_path / "encoder.safetensors"
    path.write_bytes(b"")
    with pytest.raises(ModelError, match="only holds weights.*encoder.safetensors"):
        formats.load_model(str(path))


def test_without_the_package_one_line_says_what_to_install(monkeypatch):
    find = formats.importlib.util.find_spec
    monkeypatch.setattr(
        formats.importlib.util,
        "find_spec",
        lambda name: None if name == "safetensors" else find(name),
    )
    with pytest.raises(ExportError, match=r"pip install 'simclrv2-tf\[safetensors\]'"):
        formats.check_formats(["safetensors"])


def test_a_run_has_them_beside_its_other_files(tmp_path):
    """Made of the `.keras` file whose name their own begins with."""
    model = resnet(50, 1 / 32, stem="imagenet")
    files = Artifacts(epath.Path(tmp_path), "1", False, ("torchvision", "safetensors"))
    files.write(Networks(model, None, None), 64, ())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(safetensors_file, "_STEM", (7, 7, 3, 2))
        files.finish("card", 64)
    assert files.finished()
    held = load_file(tmp_path / "encoder.torchvision.safetensors")
    own = load_file(tmp_path / "encoder.safetensors")
    assert held.keys() == set(names_of_torchvision((3, 4, 6, 3), classes=False))
    np.testing.assert_array_equal(held["bn1.running_mean"], own["stem_bn/moving_mean"])
    with safe_open(tmp_path / "encoder.safetensors", "np") as file:
        assert file.metadata() == {"image_size": "64"}
