"""What the commands that train mean: the same configuration as a command line of `run`."""

import pytest
from etils import epath
from PIL import Image

from helpers.colored import save
from helpers.config import parse
from simclrv2_tf.cli import main, training
from simclrv2_tf.config import Config, ConfigError
from simclrv2_tf.errors import UserError

# Settings of a preset for four images, which are nobody's business here.
SETTINGS = {
    "train_batch_size", "train_epochs", "train_steps", "optimizer", "learning_rate", "momentum",
    "learning_rate_scaling", "warmup_epochs", "weight_decay", "zero_init_logits_layer",
    "ft_proj_selector",
}  # fmt: skip


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """`photos` and `labelled` with two classes; runs of pretraining and fine-tuning."""
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "labelled"):
        for label in "ab":
            (tmp_path / folder / label).mkdir(parents=True)
            for number in range(3):
                path = tmp_path / folder / label / f"{number}.png"
                Image.new("RGB", (200, 180)).save(path)
    network = ["--resnet_depth=34", "--width_multiplier=0.25", "--image_size=48"]
    write("runs/pre", "--dataset=folder:photos", "--split_seed=4", *network)
    checkpoint = ["--train_mode=finetune", "--checkpoint=runs/pre"]
    write("runs/tuned", "--dataset=folder:labelled", *checkpoint)
    return tmp_path


def write(folder, *flags):
    config = parse(f"--model_dir={folder}", *flags)
    epath.Path(folder).mkdir(parents=True)
    (epath.Path(folder) / "config.json").write_text(config.to_json())


def config_of(name, *args):
    flags, _ = training.command(name, args)
    return Config.from_argv(["run", *flags])


def assert_same(config, expected, but=frozenset(SETTINGS)):
    differing = {name for name, value in vars(config).items() if value != getattr(expected, name)}
    assert differing <= but, differing


NETWORK = {"image_size", "resnet_depth", "width_multiplier", "temperature"}
CASES = {
    "pretrain": (
        ["pretrain", "photos"],
        ["--train_mode=pretrain", "--dataset=folder:photos", "--model_dir=runs/photos-pretrain"],
        NETWORK,
    ),
    "supervised": (
        ["supervised", "labelled", "--output=runs/x"],
        ["--train_mode=supervised", "--dataset=folder:labelled", "--model_dir=runs/x"],
        NETWORK,
    ),
    "finetune": (
        ["finetune", "runs/pre", "--labels", "labelled", "--label_fraction=0.5"],
        ["--train_mode=finetune", "--checkpoint=runs/pre", "--dataset=folder:labelled",
         "--label_fraction=0.5", "--resnet_depth=34", "--width_multiplier=0.25",
         "--image_size=48", "--model_dir=runs/labelled-finetune"],
        set(),
    ),
    "finetune on the images of the run": (
        ["finetune", "runs/pre"],
        ["--train_mode=finetune", "--checkpoint=runs/pre", "--dataset=folder:photos",
         "--split_seed=4", "--resnet_depth=34", "--width_multiplier=0.25",
         "--image_size=48", "--model_dir=runs/photos-finetune"],
        set(),
    ),
    "linear-eval": (
        ["linear-eval", "runs/pre", "--labels=labelled"],
        ["--train_mode=linear_eval", "--checkpoint=runs/pre", "--dataset=folder:labelled",
         "--resnet_depth=34", "--width_multiplier=0.25", "--image_size=48",
         "--model_dir=runs/labelled-linear-eval"],
        set(),
    ),
    "self-distillation": (
        ["distill", "runs/tuned", "--images=photos"],
        ["--train_mode=distill", "--teacher=runs/tuned", "--dataset=folder:labelled",
         "--unlabelled_dataset=folder:photos", "--resnet_depth=34", "--width_multiplier=0.25",
         "--image_size=48", "--temperature=0.1", "--model_dir=runs/labelled-distill"],
        set(),
    ),
    "another student": (
        ["distill", "runs/tuned", "--depth=18"],
        ["--train_mode=distill", "--teacher=runs/tuned", "--dataset=folder:labelled",
         "--resnet_depth=18", "--width_multiplier=0.25", "--image_size=48", "--temperature=1",
         "--model_dir=runs/labelled-distill"],
        set(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_command_is_a_long_command_line(case):
    args, flags, chosen = CASES[case]
    expected = parse("--mode=train_then_eval", *flags)
    assert_same(config_of(*args), expected, SETTINGS | chosen)


@pytest.mark.parametrize("preset", ["quick", "standard", "paper"])
@pytest.mark.parametrize("case", CASES)
def test_what_is_given_wins_over_every_preset(case, preset):
    args, flags, chosen = CASES[case]
    given = dict(
        batch_size=2, epochs=7, steps=9, optimizer="momentum", lr=0.5, momentum=0.7,
        learning_rate_scaling="linear", warmup_epochs=1.5, wd=0.25, temperature=0.3,
        zero_init_logits_layer=True, ft_proj_selector=2,
    )  # fmt: skip
    more = [f"--{name}={value}" for name, value in given.items()]
    config = config_of(*args, f"--preset={preset}", *more)
    expected = parse(
        *flags, "--mode=train_then_eval", "--train_batch_size=2", "--train_epochs=7",
        "--train_steps=9", "--optimizer=momentum", "--learning_rate=0.5", "--momentum=0.7",
        "--learning_rate_scaling=linear", "--warmup_epochs=1.5", "--weight_decay=0.25",
        "--temperature=0.3", "--zero_init_logits_layer", "--ft_proj_selector=2",
    )  # fmt: skip
    assert_same(config, expected, chosen - {"temperature"})


def test_presets_fit_four_images_to_train_with():
    for preset in ("quick", "standard", "paper"):
        config = config_of("pretrain", "photos", f"--preset={preset}")
        assert config.train_batch_size == 4  # of six images two are held out
        assert config.resnet_depth == (50 if preset == "paper" else 18)


def test_a_recipe_takes_the_place_of_the_preset():
    args = ["pretrain", "photos", "--flagfile=cifar10/pretrain"]
    expected = parse(
        "--flagfile=cifar10/pretrain", "--mode=train_then_eval", "--dataset=folder:photos",
        "--model_dir=runs/photos-pretrain",
    )  # fmt: skip
    assert config_of(*args) == expected
    assert config_of(*args, "--preset=quick").train_batch_size == expected.train_batch_size
    assert config_of(*args, "--preset=quick").width_multiplier == 0.5


def test_of_a_recipe_of_several_stages_the_command_takes_one(folders):
    flags, notes = training.command("pretrain", ["photos", "--flagfile=demo/default"])
    config = Config.from_argv(["run", *flags])
    assert (config.train_mode, config.train_epochs) == ("pretrain", 36)
    assert "Stage: only pretrain, of the recipe's semi_supervised." in notes


def test_a_data_set_goes_by_its_name_unless_there_is_such_a_folder(folders):
    flags, notes = training.command("pretrain", ["cifar10"])
    assert flags[-1] == "--dataset=cifar10"
    assert "Images: the data set cifar10; there is no such folder." in notes
    save(folders / "cifar10" / "0.png", 0, 0)
    flags, notes = training.command("pretrain", ["cifar10"])
    assert flags[-1] == "--dataset=folder:cifar10"
    assert "Images: the folder cifar10." in notes
    assert config_of("pretrain", "--data=cifar100").dataset == "cifar100"


def test_the_first_line_is_the_output():
    for more, folder in ([], "runs/photos-pretrain"), (["--output=there"], "there"):
        _, notes = training.command("pretrain", ["photos/", *more])
        assert notes[0] == f"Output: {folder}"


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["pretrain"], "pretrain takes one FOLDER"),
        (["pretrain", "photos", "labelled"], "Received: photos, labelled"),
        (["pretrain", "photos", "--dataset=cifar10"], "Received: photos, --dataset=cifar10"),
        (["pretrain", "photos.zip"], "`FOLDER` must be a folder of images; unpack an archive"),
        (["pretrain", "masked"], "A folder images/ must be the only folder of images"),
        (["pretrain", "no/such/folder"], "`FOLDER` must be an existing folder"),
        (["finetune", "runs/pre", "--labels=no/such/folder"], "`--labels` must be an existing"),
        (["finetune"], "finetune takes one RUN"),
        (["finetune", "runs/nothing"], "`RUN` must be the folder of a run"),
        (["finetune", "runs"], "`--labels` must be given"),
        (["finetune", "runs/damaged"], "runs/damaged/config.json cannot be read"),
        (["distill", "runs/several"], "`teacher` must be one stage of a run of several"),
        (["distill", "runs/damaged", "--dataset=x"], "runs/damaged/config.json cannot be read"),
        (["pretrain", "photos", "--train_mode=distill"], "`train_mode` must be left out"),
        (["pretrain", "photos", "--flagfile=cifar10/linear"], "`train_mode` must be left out"),
        (["pretrain", "photos", "--flagfile=demo", "--train_mode=distill"], "must be left out"),
        (["pretrain", "photos", "--preset=fast"], "`preset` must be one of quick, standard, paper"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(args, expected, folders, capsys):
    (folders / "photos.zip").write_text("PK")
    for name in ("images", "masks"):
        save(folders / "masked" / name / "0.png", 0, 0)
    write("runs/several/pretrain", "--dataset=x")
    write("runs/several/label_fraction_0.1/fine_tuned", "--dataset=x")
    (folders / "runs/several/config.json").write_text("{}")
    (folders / "runs/damaged").mkdir()
    (folders / "runs/damaged/config.json").write_text("{")
    with pytest.raises(UserError) as caught:
        training.command(args[0], args[1:])
    assert expected in str(caught.value)
    assert main(args) == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1, said


def test_a_flag_that_differs_from_the_run_is_refused(capsys):
    assert main(["finetune", "runs/pre", "--labels=labelled", "--depth=50"]) == 2
    assert "resnet_depth=50 (34 in the checkpoint)" in capsys.readouterr().err


def test_unknown_flags_are_answered_as_by_run(capsys):
    assert main(["pretrain", "photos", "--temprature=1"]) == 2
    assert "Did you mean `temperature`?" in capsys.readouterr().err


def test_the_same_command_is_the_same_run():
    assert config_of("pretrain", "photos") == config_of("pretrain", "./photos/")


def test_an_empty_preset_is_no_default():
    with pytest.raises(ConfigError, match="`preset` must be one of"):
        training.command("pretrain", ["photos", "--preset="])
