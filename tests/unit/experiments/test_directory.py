"""The folder of a run: whose it is, what it began with, and whether it has ended."""

import dataclasses
import json

import pytest
import tensorflow as tf

from helpers.command_line import files
from simclrv2_tf.config import Config
from simclrv2_tf.experiments import early, registry, runner
from simclrv2_tf.experiments.directory import RunDirectory, RunError
from simclrv2_tf.experiments.record import RecordError
from simclrv2_tf.files import to_json
from simclrv2_tf.weights import teachers

MADE_OF = {
    "data": {
        "main": {
            "name": "folder:photos",
            "class_names": ["ant", "bee"],
            "splits": {"train": {"examples": 90, "fingerprint": "a"}},
        },
        "unlabelled": None,
    },
    "weights": None,
}
SESSION = {"versions": {"keras": "3.15"}, "devices": ["CPU"], "replicas": 1}


@pytest.fixture
def config(tmp_path):
    return Config(mode="train_then_eval", num_replicas=2, model_dir=str(tmp_path / "run"))


def test_a_folder_takes_another_number_of_replicas(config):
    """And another batch size it does not, lest all were taken."""
    RunDirectory(config).claim()
    one = dataclasses.replace(config, num_replicas=1, strategy="default")
    RunDirectory(one).claim()
    other = dataclasses.replace(one, train_batch_size=config.train_batch_size * 2)
    before = files(RunDirectory(config).path)
    with pytest.raises(RunError, match="train_batch_size=512 in the folder, 1024 here"):
        RunDirectory(other).claim()
    assert files(RunDirectory(config).path) == before


def test_a_run_is_finished_by_its_options_whatever_their_order(config):
    """Files of an earlier version have the options in another order."""
    directory = RunDirectory(config)
    directory.begin(MADE_OF, SESSION)
    assert directory.finished(10) is None, "there is no result yet"
    directory.result.write_text(to_json({"global_step": 10, "loss": 1.0}))
    values = json.loads(directory.options.read_text())
    directory.options.write_text(json.dumps(dict(sorted(values.items()))))
    assert directory.finished(10) == {"global_step": 10, "loss": 1.0}
    assert directory.finished(11) is None, "it stopped before"
    for change in (dict(mode="train"), dict(export_formats=("tar.gz",)), dict(eval_steps=1)):
        other = RunDirectory(dataclasses.replace(config, **change))
        assert other.finished(10) is None


def test_beginning_again_removes_a_result_of_another_evaluation_alone(config):
    directory = RunDirectory(config)
    directory.begin(MADE_OF, SESSION)
    directory.result.write_text("{}")
    RunDirectory(dataclasses.replace(config, export_formats=("tar.gz",))).begin(MADE_OF, SESSION)
    assert directory.result.exists(), "formats do not change the result"
    RunDirectory(dataclasses.replace(config, eval_steps=1)).begin(MADE_OF, SESSION)
    assert not directory.result.exists()


def test_files_of_an_evaluation_have_its_name(config):
    plain, named = (
        RunDirectory(dataclasses.replace(config, eval_name=name)) for name in (None, "again")
    )
    assert (plain.result.name, named.result.name) == ("result.json", "result_again.json")
    assert named.named("results.md").name == "results_again.md"
    assert named.named("figures").name == "figures_again"


@pytest.mark.parametrize("text", ['{"gone": 1}', '{"mode": "tra', "[]"])
def test_options_that_cannot_be_read_are_named_and_left_alone(config, text):
    directory = RunDirectory(config)
    directory.path.mkdir()
    directory.options.write_text(text)
    for method in (directory.check, directory.claim):
        with pytest.raises(RunError, match="config.json cannot be read"):
            method()
    assert directory.options.read_text() == text


def test_the_other_network_of_a_run_of_several_stages_is_refused_by_name(tmp_path):
    """Its later stages were trained on the one that was chosen then."""
    config = Config(train_mode="pretrain_linear_eval", memory_size=64, model_dir=str(tmp_path))
    RunDirectory(config).claim()
    other = dataclasses.replace(config, mode="eval", eval_ema=True, eval_name="ema")
    with pytest.raises(RunError, match="eval_ema=False in the folder, True here"):
        RunDirectory(other).check()
    stage = {"train_mode": "pretrain", "model_dir": str(tmp_path / "pretrain")}
    RunDirectory(dataclasses.replace(config, **stage)).claim()
    RunDirectory(dataclasses.replace(other, **stage)).check()


# --- The precision of a run ----------------------------------------------------------------------


@pytest.mark.parametrize("detected", ["float32", "mixed_bfloat16"])
def test_auto_becomes_what_the_device_computes_fast(config, detected, monkeypatch):
    monkeypatch.setattr(runner.precision, "detect", lambda: (detected, "because"))
    chosen, reason = runner.with_precision(config, tf.distribute.get_strategy())
    assert (chosen.precision, reason) == (detected, "because")
    given = dataclasses.replace(config, precision="float32")
    assert runner.with_precision(given, tf.distribute.get_strategy())[0] == given


@pytest.mark.parametrize("folder", ["", "pretrain"])
def test_a_resumed_run_keeps_its_precision(config, folder, monkeypatch):
    """Of several stages, the first has options before the run itself does."""
    monkeypatch.setattr(runner.precision, "detect", lambda: ("mixed_bfloat16", "because"))
    config = dataclasses.replace(config, train_mode="pretrain_linear_eval")
    own = dataclasses.replace(
        config,
        precision="float32",
        model_dir=str(RunDirectory(config).path / folder),
        train_mode="pretrain" if folder else config.train_mode,
    )
    RunDirectory(own).claim()
    chosen, reason = runner.with_precision(config, tf.distribute.get_strategy())
    assert (chosen.precision, reason) == ("float32", "as in the resumed run")


# --- The resizing of a run -----------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    return Config(dataset=f"folder:{tmp_path / 'photos'}", model_dir=str(tmp_path / "run"))


def test_folders_are_antialiased_unless_something_says_otherwise(photos):
    assert runner.with_antialias(photos).antialias is True
    for name in ("cifar10", "fashion_mnist_small", "imagenet2012_subset/1pct"):
        other = dataclasses.replace(photos, dataset=name, unlabelled_dataset="folder:photos")
        assert runner.with_antialias(other).antialias is False
    for value in (True, False):
        given = dataclasses.replace(photos, antialias=value)
        assert runner.with_antialias(given) == given


@pytest.mark.parametrize("antialias", [True, False])
def test_a_resumed_run_keeps_its_resizing(photos, antialias):
    begun = dataclasses.replace(photos, antialias=antialias)
    RunDirectory(begun).claim()
    assert runner.with_antialias(photos) == begun
    early.check(photos)
    other = dataclasses.replace(photos, antialias=not antialias)
    with pytest.raises(
        RunError, match=f"antialias={antialias} in the folder, {not antialias} here"
    ):
        early.check(other)


@pytest.mark.parametrize("folder", ["", "pretrain"])
def test_a_run_of_an_earlier_version_resumes_without_antialiasing(photos, folder):
    whole = dataclasses.replace(photos, train_mode="pretrain_linear_eval", precision="float32")
    own = dataclasses.replace(
        whole,
        model_dir=str(RunDirectory(photos).path / folder),
        train_mode="pretrain" if folder else whole.train_mode,
    )
    RunDirectory(own).claim()
    options = RunDirectory(own).options
    held = json.loads(options.read_text())
    del held["antialias"]
    options.write_text(json.dumps(held))
    resumed = runner.with_antialias(whole)
    assert resumed.antialias is False
    early.check(whole)
    RunDirectory(dataclasses.replace(own, antialias=False)).check()


@pytest.mark.parametrize("option", ["checkpoint", "teacher"])
@pytest.mark.parametrize("trained", [True, False])
def test_a_run_resizes_as_its_weights_were_trained(photos, option, trained, tmp_path, caplog):
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "inputs.json").write_text(json.dumps({"image_size": 8, "antialias": trained}))
    mode = {"checkpoint": "finetune", "teacher": "distill"}[option]
    config = dataclasses.replace(photos, train_mode=mode, **{option: str(weights)})
    assert runner.with_antialias(config).antialias is trained
    runner.with_antialias(dataclasses.replace(config, antialias=trained))
    assert not caplog.messages
    given = dataclasses.replace(config, antialias=not trained)
    assert runner.with_antialias(given) == given
    (message,) = caplog.messages
    assert f"trained {'with' if trained else 'without'} antialiased" in message


def changed(**changes):
    """`MADE_OF` with other values of its data, or other weights."""
    main = MADE_OF["data"]["main"]
    main = {**main, **{key: changes[key] for key in main.keys() & changes}}
    others = {key: value for key, value in changes.items() if key not in main}
    return {**MADE_OF, "data": {**MADE_OF["data"], "main": main}, **others}


@pytest.mark.parametrize(
    "now, words",
    [
        (
            changed(class_names=["bee", "cat"]),
            "class 0 of folder:photos is now 'bee', 'ant' before",
        ),
        (changed(class_names=["ant"]), "now has 1 classes, 2 before"),
        (
            changed(splits={"train": {"examples": 88, "fingerprint": "b"}}),
            "train of folder:photos now has 88 images, 90 before",
        ),
        (
            changed(splits={"train": {"examples": 90, "fingerprint": "b"}}),
            "the same number of images, 90, but",
        ),
        (changed(weights="ckpt-7-0"), "started from other weights"),
    ],
)
def test_another_run_is_refused_by_what_it_is_made_of(config, now, words):
    directory = RunDirectory(config)
    directory.check_made_of(now)  # of no run
    directory.begin(MADE_OF, SESSION)
    directory.check_made_of(now)  # of one that has not trained
    directory.check_made_of(MADE_OF)
    directory.checkpoints.mkdir()
    (directory.checkpoints / "ckpt-3.index").touch()
    directory.check_made_of(MADE_OF)
    before = files(directory.path)
    with pytest.raises(RunError, match=words):
        directory.check_made_of(now)
    assert files(directory.path) == before


def test_another_split_is_no_change_and_a_known_one_is(config):
    """An evaluation on another split than the run's own is compared by nothing."""
    directory = RunDirectory(config)
    directory.begin(MADE_OF, SESSION)
    directory.result.write_text("{}")
    directory.check_made_of(changed(splits={"test": {"examples": 5, "fingerprint": "c"}}))


def test_a_run_of_an_earlier_version_is_known_by_its_weights(config):
    directory = RunDirectory(config)
    directory.claim()
    directory.result.write_text("{}")
    directory.check_made_of(MADE_OF)
    (directory.path / "start.json").write_text('{"weights": "ckpt-7-0"}')
    with pytest.raises(RunError, match="started from other weights"):
        directory.check_made_of(MADE_OF)


def test_sessions_are_kept_and_compared(config):
    directory = RunDirectory(config)
    assert directory.begin(MADE_OF, SESSION) == []
    other = {**SESSION, "versions": {"keras": "3.16", "numpy": "2"}, "devices": ["GPU x", "GPU x"]}
    words = directory.begin(MADE_OF, other)
    assert words == ["keras 3.16 (was 3.15)", "numpy 2 (was None)", "devices GPU x GPU x (was CPU)"]
    held = directory.record.read()
    assert held["sessions"] == [SESSION, other] and held["made_of"] == MADE_OF


@pytest.mark.parametrize("text", ["", "[]", '{"made_of": 3}', '{"made_of"'])
def test_a_damaged_record_is_named(config, text):
    directory = RunDirectory(config)
    directory.path.mkdir()
    directory.record.path.write_text(text)
    with pytest.raises(RecordError, match="run.json cannot be read"):
        directory.check_made_of(MADE_OF)


@pytest.mark.parametrize(
    "change", [dict(eval_split="train"), dict(eval_steps=1), dict(eval_ema=True, memory_size=512)]
)
def test_another_evaluation_needs_a_name(config, change):
    """Its result.json would pass for the run's own."""
    own = {name: value for name, value in change.items() if name == "memory_size"}
    config = dataclasses.replace(config, train_mode="pretrain", num_replicas=1, **own)
    RunDirectory(config).claim()
    other = dataclasses.replace(config, mode="eval", **change)
    with pytest.raises(RunError, match="`eval_name` must be given"):
        RunDirectory(other).check()
    RunDirectory(dataclasses.replace(other, eval_name="other")).check()
    RunDirectory(dataclasses.replace(config, mode="eval")).check()


def test_weights_and_teachers_of_other_channels_are_refused_in_a_line(photos, tmp_path):
    (tmp_path / "inputs.json").write_text('{"image_size": 8, "channels": 5}')
    for path, there in (("r50_1x_sk0", 3), (str(tmp_path), 5)):
        config = dataclasses.replace(photos, train_mode="finetune", checkpoint=path, channels=1)
        with pytest.raises(RunError) as caught:
            runner.check_channels(config)
        line = f"`channels` must be {there}, as in the run of `checkpoint`. Received: "
        assert str(caught.value).startswith(f"{line}channels=1, checkpoint={path}.")
        assert len(str(caught.value).splitlines()) == 1
    runner.check_channels(dataclasses.replace(config, channels=5))
    stage = object.__new__(registry.stages()["distill"])
    stage.config = dataclasses.replace(photos, train_mode="distill", teacher="t", channels=1)
    teacher = teachers.Teacher(predict=None, num_classes=2, channels=5)
    with pytest.raises(RunError, match="must be 5, the teacher's number.* channels=1, teacher=t$"):
        stage._check_channels(teacher)
