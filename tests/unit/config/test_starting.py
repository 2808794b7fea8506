"""The network of a checkpoint's run: taken, compared, and what is wrong with its file."""

import dataclasses
import json

import pytest

from helpers.config import errors_of, parse
from simclrv2_tf.config import Config, ConfigError, starting
from simclrv2_tf.network_options import NetworksOptions
from simclrv2_tf.options import of

# Every option of the network at another value than its default.
OTHERS = dict(
    resnet_depth=18, width_multiplier=0.5, sk_ratio=0.125, se_ratio=0.25, stem="cifar",
    batch_norm_decay=0.99, global_bn=False, proj_head_mode="linear", num_proj_layers=2,
    proj_out_dim=64, proj_hidden_dim=32, proj_output_bn=False,
    proj_output_scale=False, image_size=48, channels=5,
)  # fmt: skip
FINETUNE = ["--train_mode=finetune", "--dataset=x", "--model_dir=new"]


def write_run(folder, **options):
    folder.mkdir(parents=True)
    text = Config(dataset="photos", model_dir=str(folder), **options).to_json()
    (folder / "config.json").write_text(text)
    return folder


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", **OTHERS)


def test_every_option_of_the_network_is_taken(run):
    assert set(OTHERS) == set(of(NetworksOptions)) - {"ft_proj_selector"} | {
        "image_size",
        "channels",
    }
    config = parse(f"--checkpoint={run}", *FINETUNE)
    flags = [f"--{name}={value}" for name, value in OTHERS.items()]
    assert config == parse(f"--checkpoint={run}", *flags, *FINETUNE)
    assert dataclasses.asdict(config).items() >= OTHERS.items()


def test_what_was_taken_is_said(run):
    notes = []
    Config.from_argv(["run", f"--checkpoint={run}", *FINETUNE], notes)
    assert notes == [f"Network as in {run}/config.json: ResNet-18 0.5x D SE, 5 bands, 48 px."]
    flags = [f"--{name}={value}" for name, value in OTHERS.items()]
    notes = []
    Config.from_argv(["run", f"--checkpoint={run}", *flags, *FINETUNE], notes)
    assert notes == []


@pytest.mark.parametrize(
    "below", ["encoder.keras", "checkpoints", "checkpoints/ckpt-7", "hub/7", "."]
)
def test_weights_in_a_run_belong_to_it(run, below):
    file, network = starting.network_of(str(run / below))
    assert network == OTHERS and file.endswith("config.json")


def test_a_run_of_several_stages_means_its_pretraining(run):
    write_run(run / "pretrain", resnet_depth=34)
    assert parse(f"--checkpoint={run}", *FINETUNE).resnet_depth == 34


def test_an_import_describes_its_network(tmp_path):
    architecture = {
        "resnet_depth": 101, "width_multiplier": 2, "sk_ratio": 0.0625, "se_ratio": 0.0,
        "stem": "imagenet", "num_proj_layers": 0, "proj_head_mode": "none", "proj_out_dim": 0,
        "num_classes": 10, "classifier_inputs": 4096,
    }  # fmt: skip
    report = {"architecture": architecture, "image_size": 192}
    (tmp_path / "import.json").write_text(json.dumps(report))
    config = parse(f"--checkpoint={tmp_path}", *FINETUNE)
    assert (config.resnet_depth, config.width_multiplier, config.image_size) == (101, 2.0, 192)
    assert config.num_head_layers == 0


def test_other_weights_say_nothing(tmp_path):
    for path in (tmp_path, tmp_path / "nothing", "r50_1x_sk0", "gs://bucket/run"):
        assert starting.network_of(str(path)) == ("", {})
        assert parse(f"--checkpoint={path}", *FINETUNE).resnet_depth == 50


@pytest.mark.parametrize("content", ["{", "[]", "\x00"])
def test_a_damaged_file_is_one_line(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    (error,) = errors_of(f"--checkpoint={tmp_path}", *FINETUNE)
    assert f"{tmp_path}/config.json cannot be read" in error
    assert error.endswith(f"Received: checkpoint={tmp_path}")
    with pytest.raises(ConfigError, match="`teacher` must name a run"):
        starting.network_of(str(tmp_path), "teacher")


def test_another_network_is_refused_in_one_line(run):
    flags = ["--resnet_depth=50", "--width_multiplier=0.5", "--sk_ratio=0"]
    (error,) = errors_of(f"--checkpoint={run}", *flags, *FINETUNE)
    assert "has another network" in error
    assert error.endswith(
        "Received: resnet_depth=50 (18 in the checkpoint), sk_ratio=0.0 (0.125 in the checkpoint)"
    )


def test_the_head_counts_where_its_weights_are_loaded(run):
    """A classifier on the encoder's output takes nothing of the head."""
    flags = [f"--checkpoint={run}", "--proj_out_dim=8"]
    assert parse(*flags, *FINETUNE).proj_out_dim == 8
    for more in (["--ft_proj_selector=1", *FINETUNE], ["--dataset=x"]):
        assert "proj_out_dim=8 (64 in the checkpoint)" in errors_of(*flags, *more)[0]


def test_another_size_of_the_images_keeps_the_stem(tmp_path):
    small, large = (
        write_run(tmp_path / str(size), image_size=size, resnet_depth=18) for size in (32, 64)
    )
    for run, other, stem in ((small, 64, "cifar"), (large, 32, "imagenet")):
        assert parse(f"--checkpoint={run}", f"--image_size={other}", *FINETUNE).stem == stem
        assert parse(f"--checkpoint={run}", *FINETUNE).stem == "auto"


def test_without_a_data_set_the_rest_is_the_demos(run):
    config = parse("--train_mode=linear_eval", f"--checkpoint={run}")
    assert (config.resnet_depth, config.image_size, config.dataset) == (
        18, 48, "fashion_mnist_small",
    )  # fmt: skip
    assert config.optimizer == "adam"


def test_channels_that_no_file_says_are_three(tmp_path):
    run = write_run(tmp_path / "run")
    file = run / "config.json"
    held = json.loads(file.read_text())
    del held["channels"]  # as earlier versions wrote
    file.write_text(json.dumps(held))
    assert Config.from_json(file.read_text()).channels == 3
    assert parse(f"--checkpoint={run}", *FINETUNE).channels == 3
    (line,) = errors_of(f"--checkpoint={run}", "--channels=1", *FINETUNE)
    assert line.endswith("Received: channels=1 (3 in the checkpoint)")
    (line,) = errors_of("--dataset=x", "--channels=1", "--grayscale_probability=0.5")
    assert line.startswith("`grayscale_probability` must be left out or 0 unless channels=3")
    assert parse("--dataset=x", "--channels=1", "--grayscale_probability=0").channels == 1
