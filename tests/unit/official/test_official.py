"""The reference's files: read, recognized, and loaded into our networks."""

import itertools
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import oracle
from helpers.reference_checkpoint import reference_names, write_tf1
from helpers.shapes_only import shapes_only
from simclrv2_tf import official, resnet, weights
from simclrv2_tf.official import __main__ as command
from simclrv2_tf.official import architecture
from simclrv2_tf.weights import teachers

TF1 = oracle.ORACLE / "tf1_checkpoint"


@pytest.mark.parametrize("name", ["r18_cifar", "r50_sk"])
def test_recorded_checkpoints_give_their_recorded_outputs(name):
    """Only from names and shapes: no option names the network."""
    expected = oracle.load(f"tf1_checkpoint/{name}/expected.npz")
    variables = official.Variables(str(TF1 / name))
    models = official.infer(variables.shapes).build()
    report = official.load_weights(dict(variables), **models)
    from_mapping = [v.numpy() for model in models.values() for v in model.weights]
    for model in models.values():
        model.set_weights([np.zeros_like(value) for value in model.get_weights()])
    assert official.load_checkpoint(str(TF1 / name), **models) == report
    loaded = [v.numpy() for model in models.values() for v in model.weights]
    assert all(np.array_equal(a, b) for a, b in zip(from_mapping, loaded, strict=True))
    assert report.used.keys() | report.skipped.keys() == set(variables)
    assert not report.used.keys() & report.skipped.keys()
    ours = sorted(v.path for model in models.values() for v in model.weights)
    assert sorted(report.used.values()) == ours
    assert all("Momentum" in n or n == "global_step" for n in report.skipped)
    representation = models["encoder"](expected["images"])
    selected = models["head"](representation)[int(expected["ft_proj_selector"])]
    for got, key in (
        (representation, "representation"),
        (selected, "finetune_head_input"),
        (models["classifier"](selected), "logits"),
    ):
        scale = np.abs(expected[key]).max()
        np.testing.assert_allclose(got, expected[key], atol=1e-4 * scale, err_msg=key)


STRUCTURES = [
    (10, "imagenet", 0, 0),
    (18, "cifar", 0.0625, 0),
    (18, "imagenet", 0.0625, 0),
    (34, "imagenet", 0, 0.25),
    (50, "cifar", 0, 0),
    (50, "cifar", 0.5, 0),
    (50, "imagenet", 0.0625, 0.25),
]


@pytest.mark.parametrize(("depth", "stem", "sk_ratio", "se_ratio"), STRUCTURES)
def test_every_structure_is_told_from_its_convolutions(depth, stem, sk_ratio, se_ratio):
    with shapes_only():
        encoder = resnet.resnet(depth, 1 / 8, sk_ratio, se_ratio, stem=stem)
        shapes = {n: tuple(v.shape) for n, v in reference_names(encoder=encoder).items()}
        found = official.infer(shapes)
        rebuilt = found.build()["encoder"]
    if depth < 50 and stem == "cifar":
        sk_ratio = 0  # no weight shows it
    assert (found.resnet_depth, found.width_multiplier, found.stem) == (depth, 1 / 8, stem)
    assert (found.sk_ratio > 0, found.se_ratio > 0) == (sk_ratio > 0, se_ratio > 0)
    assert (found.num_proj_layers, found.num_classes) == (0, 0)
    assert [tuple(v.shape) for v in rebuilt.weights] == [tuple(v.shape) for v in encoder.weights]


def test_no_two_structures_have_the_same_convolutions():
    structures = list(architecture._structures())
    kernels = [[c.kernel for c in architecture._convolutions(*s)] for s in structures]
    assert len(structures) == 3 * 6 + 4 * 8
    assert all(a != b for a, b in itertools.combinations(kernels, 2))


@pytest.mark.parametrize(("width", "ratio"), [(1, 0.0625), (3, 0.0625), (2, 0.25), (1, 0.5)])
def test_ratios_are_told_from_widths(width, ratio):
    filters = [64 * width * 2**group for group in range(4)]
    widths = [(f, max(int(f * ratio), 32)) for f in filters]
    assert architecture._ratio(widths, 32) == ratio
    assert architecture._ratio([*widths, (64, 33)], 32) == ratio  # one of another shape


@pytest.mark.parametrize("multiplier", [0.3, 1 / 16, 1, 3])
@pytest.mark.parametrize("structure", [(18, False, False, "cifar"), (50, True, True, "imagenet")])
def test_widths_are_told_from_filters(multiplier, structure):
    convolutions = [c for c in architecture._convolutions(*structure) if c.base]
    filters = [(c, c.filters(multiplier)) for c in convolutions]
    found = architecture._width_multiplier(filters)
    assert [c.filters(found) for c in convolutions] == [number for _, number in filters]
    assert found == multiplier or multiplier == 0.3


def test_what_does_not_fit_is_named(tmp_path):
    values = oracle.load("tf1_checkpoint/r18_cifar/expected.npz") and {
        name: value for name, value in official.Variables(str(TF1 / "r18_cifar")).items()
    }
    missing, extra, misshapen = (
        "base_model/conv2d_4/kernel",
        "base_model/conv2d_77/kernel",
        "head_contrastive/nl_0/dense/kernel",
    )
    broken = {name: value for name, value in values.items() if name != missing}
    broken[extra] = np.zeros((1, 1, 2, 2), np.float32)
    broken[misshapen] = values[misshapen][:, 1:]
    write_tf1(tmp_path / "broken", broken)
    models = official.infer(official.Variables(str(TF1 / "r18_cifar")).shapes).build()
    before = [v.numpy() for model in models.values() for v in model.weights]
    with pytest.raises(official.OfficialError) as error:
        official.load_checkpoint(str(tmp_path / "broken"), **models)
    text = str(error.value)
    assert "nothing fills it" in text and extra in text and misshapen in text
    after = [v.numpy() for model in models.values() for v in model.weights]
    assert all(np.array_equal(a, b) for a, b in zip(after, before, strict=True))


def test_the_momentum_network_is_chosen_or_passed_over(tmp_path):
    values = dict(official.Variables(str(TF1 / "r18_cifar")).items())
    values = {name: v for name, v in values.items() if "Momentum" not in name}
    copies = {f"ema_model/{name}": v + 1 for name, v in values.items() if name != "global_step"}
    prefix = write_tf1(tmp_path / "both", {**values, **copies})
    variables = official.Variables(prefix)
    models = official.infer(variables.shapes).build()
    name = "base_model/conv2d/kernel"
    for momentum in (False, True):
        report = official.load_checkpoint(prefix, **models, momentum=momentum)
        kernel = models["encoder"].get_layer("stem_conv").kernel
        np.testing.assert_array_equal(kernel, values[name] + momentum)
        assert report.used.keys() | report.skipped.keys() == set(variables)
        assert (name in report.skipped) == momentum


def test_a_run_starts_from_them_as_from_its_own(tmp_path):
    """By variable path, as `--checkpoint` reads weights."""
    path = str(TF1 / "r50_sk")
    models = official.infer(official.Variables(path).shapes).build()
    shapes = weights.shapes(path)
    assert shapes == {v.path: tuple(v.shape) for m in models.values() for v in m.weights}
    assert weights.fits(path, models.values())
    weights.load(path, models.values())
    got = [v.numpy() for m in models.values() for v in m.weights]
    official.load_checkpoint(path, **models)
    expected = [v.numpy() for m in models.values() for v in m.weights]
    assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))
    assert weights.fingerprint(path)


def test_what_is_no_checkpoint_is_said(tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(official.OfficialError, match="must be the prefix"):
            official.Variables(str(path))
    prefix = write_tf1(tmp_path / "other", {"dense/kernel": np.zeros((2, 3), np.float32)})
    with pytest.raises(weights.CheckpointError, match="released weights"):
        weights.shapes(prefix)


def test_two_variables_of_one_name_are_not_mixed_up(tmp_path):
    module = tf.Module()
    module.held = [tf.Variable(1.0, name="resnet/conv2d/kernel") for _ in range(2)]
    tf.saved_model.save(module, str(tmp_path / "twice"))
    with pytest.raises(official.OfficialError, match="Two variables have the name"):
        official.Variables(str(tmp_path / "twice"))


def test_released_models_are_the_papers():
    """Parameters of Table 1 against those counted from the reference's networks."""
    path = oracle.ORACLE / "parameter_counts.json"
    if not path.exists():
        pytest.skip("the reference's recordings are missing")
    counted = {
        (row["depth"], row["width"], row["sk"]): row["base_all"]
        for row in json.loads(path.read_text())
    }
    models = official.released()
    assert len({model.name for model in models.values()}) == 13 * 5 + 3 * 2
    assert models["r50_1x_sk0"] == models["pretrained/r50_1x_sk0"]
    for model in models.values():
        key = (model.resnet_depth, model.width_multiplier, model.sk_ratio)
        assert abs(counted[key] / 1e6 - model.parameters_in_millions) <= 1.0, model.name
        assert model.saved_model.endswith(f"{model.name}/saved_model")
    names = ("finetuned_1pct/r50_1x_sk0", "supervised/r152_3x_sk1", "distill_10pct/r50_2x_sk1")
    assert [models[name].top_1_accuracy for name in names] == [57.9, 80.5, 80.2]


# --- The command line -----------------------------------------------------------------------------


def run(*arguments):
    """Imports without the SavedModel, which takes longest."""
    return command.main(["--export_formats=keras", *map(str, arguments)])


def test_a_recorded_checkpoint_becomes_a_model_and_a_teacher(tmp_path, capsys):
    expected = oracle.load("tf1_checkpoint/r18_cifar/expected.npz")
    output, labels = tmp_path / "r18", tmp_path / "labels.txt"
    layer = int(expected["ft_proj_selector"])
    num_classes = expected["logits"].shape[-1]
    labels.write_text("".join(f"class {k}\n" for k in range(num_classes)))
    source = f"--source={TF1 / 'r18_cifar'}"
    arguments = [f"--output={output}", f"--ft_proj_selector={layer}", f"--labels={labels}"]
    assert run(source, *arguments, "--image_size=32", "--resnet_depth=18") == 0
    report = json.loads((output / "import.json").read_text())
    variables = official.Variables(str(TF1 / "r18_cifar"))
    assert report["used"].keys() | report["skipped"].keys() == set(variables)
    assert f"{len(report['used'])} variables of {len(variables)} used" in capsys.readouterr().out
    assert (output / "labels.txt").read_text() == labels.read_text()
    assert "r18_cifar" in (output / "README.md").read_text() and not (output / "hub").exists()
    teacher = teachers.load(str(output))
    assert teacher.num_classes == num_classes
    logits = teacher.predict(expected["images"], training=False)
    scale = np.abs(expected["logits"]).max()
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-4 * scale)
    assert weights.shapes(str(output)).keys() == set(report["used"].values())


def test_what_cannot_be_imported_is_said_and_leaves_nothing(tmp_path, capsys):
    values = dict(official.Variables(str(TF1 / "r18_cifar")).items())
    name = "base_model/conv2d_4/kernel"
    recorded = TF1 / "r18_cifar"
    broken = {
        "missing": {key: value for key, value in values.items() if key != name},
        "extra": values | {"base_model/conv2d_77/kernel": np.zeros((1, 1, 2, 2), np.float32)},
        "misshapen": values | {name: np.zeros((3, 3, 2, 5), np.float32)},
    }
    for kind, held in broken.items():
        write_tf1(tmp_path / kind, held)
    shutil.copytree(recorded, tmp_path / "cut")
    (data,) = (tmp_path / "cut").glob("*.data*")
    data.chmod(0o644)
    data.write_bytes(data.read_bytes()[:-2000])
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("kept")
    labels = tmp_path / "labels.txt"
    labels.write_text("one\n")
    for given, message in (
        ({"source": tmp_path / "missing"}, "number 4, kernel"),
        ({"source": tmp_path / "extra"}, "conv2d_77/kernel: the encoder has no such variable"),
        ({"source": tmp_path / "misshapen"}, f"{name}: shape (3, 3, 2, 5) does not fit"),
        ({"source": tmp_path}, "must be the prefix"),
        ({"source": recorded, "output": full}, "must be a new or empty folder"),
        (
            {"source": recorded, "resnet_depth": 50},
            "resnet_depth is 18 in the file and 50 in the flags",
        ),
        ({"source": recorded, "ft_proj_selector": 9}, "with the classifier's width"),
        ({"source": recorded, "ft_proj_selector": -1}, "with the classifier's width"),
        ({"source": recorded}, "which files do not record: 0, 1"),
        ({"source": recorded, "labels": labels}, "Received: 1 names"),
        ({"source": recorded, "labels": tmp_path / "no"}, "`labels` must be a text file"),
        ({"source": tmp_path / "cut"}, "Is the copy complete?"),
        ({}, "must be given"),
    ):
        arguments = {"output": tmp_path / "new"} | given
        if given.get("source", recorded) != recorded:
            arguments.setdefault("ft_proj_selector", 0)
        assert run(*(f"--{key}={value}" for key, value in arguments.items())) == 2, given
        assert message in capsys.readouterr().err, given
        assert not (tmp_path / "new").exists(), given
    assert [path.name for path in full.iterdir()] == ["mine.txt"]
    assert run("--source=distill_1pct/r50_1x_sk0", f"--output={tmp_path / 'new'}") == 2
    assert "neither the paper nor the file gives" in capsys.readouterr().err
    assert "python -m simclrv2_tf.official --source" in teacher_error(str(recorded))


def test_the_momentum_network_is_imported_on_demand(tmp_path):
    values = dict(official.Variables(str(TF1 / "r18_cifar")).items())
    values = {n: v for n, v in values.items() if n.startswith("base_model/") and "Mom" not in n}
    prefix = write_tf1(tmp_path / "c", {f"ema_model/{n}": v + 1 for n, v in values.items()})
    assert run(f"--source={prefix}", f"--output={tmp_path / 'out'}", "--momentum") == 0
    encoder = keras.saving.load_model(tmp_path / "out" / "encoder.keras")
    kernel = values["base_model/conv2d/kernel"] + 1
    np.testing.assert_array_equal(encoder.get_layer("stem_conv").kernel, kernel)


def teacher_error(path):
    with pytest.raises(weights.CheckpointError) as error:
        teachers.load(path)
    return str(error.value)


def test_the_list_is_printed(capsys):
    assert run("--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 71
    assert any("finetuned_1pct/r152_3x_sk1" in line and "74.9" in line for line in lines)
