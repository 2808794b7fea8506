"""Runs on the Hugging Face Hub, with a stand-in at the boundary of its client."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest

from helpers import small
from helpers.command_line import SMALL, fails, files, result
from simclrv2_tf import cli, hugging_face
from simclrv2_tf.errors import UserError
from simclrv2_tf.export import model_card

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Repositories in a folder; downloads go to a cache with the layout of the client's."""

    def __init__(self, root):
        self.root, self.created, self.downloads = root, [], []

    def create_repo(self, repo_id, *, private, exist_ok):
        self.created.append((repo_id, private, exist_ok))

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)
        return f"https://example.org/{repo_id}"

    def snapshot_download(self, repo_id, *, revision, ignore_patterns):
        self.downloads.append((repo_id, revision))
        if not (self.root / repo_id).exists():
            raise OSError(f"no {repo_id}\nand more lines")
        cached = (
            self.root / "cache" / f"models--{repo_id.replace('/', '--')}" / "snapshots" / COMMIT
        )
        ignore = shutil.ignore_patterns(*ignore_patterns)
        shutil.copytree(self.root / repo_id, cached, dirs_exist_ok=True, ignore=ignore)
        return str(cached)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    return hub


@pytest.fixture
def published(hub, shared_runs, tmp_path, monkeypatch):
    """The Hub with `me/birds`, a fine-tuned stage; the current folder has its images."""
    run = shared_runs("study") / "label_fraction_0.5" / "fine_tuned"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").symlink_to(shared_runs.made("images"))
    # As on a machine where the run was made of absolute paths.
    copy = tmp_path / "home" / "run"
    shutil.copytree(run, copy)
    options = json.loads((copy / "config.json").read_text())
    options |= {"dataset": f"folder:{tmp_path}/images", "model_dir": str(copy)}
    (copy / "config.json").write_text(json.dumps(options))
    (copy / "image_classifier.onnx").touch()
    assert cli.main(["publish", str(copy), "hf://me/birds", "--license=mit", "--private"]) == 0
    return hub


def test_what_is_published(published, tmp_path):
    repo, run = published.root / "me/birds", tmp_path / "home" / "run"
    assert published.created == [("me/birds", True, True)]
    held = {path.relative_to(run).as_posix(): data for path, data in files(run).items()}
    uploaded = {path.relative_to(repo).as_posix(): data for path, data in files(repo).items()}
    names = {*uploaded}
    assert {"encoder.keras", "image_classifier.keras", "config.json", "README.md"} <= names
    assert {"labels.txt", "inputs.json", "SHA256SUMS", "image_classifier.onnx"} <= names
    assert "hub/6/saved_model.pb" in names
    assert not any(name.startswith(("checkpoints", "logs", "history")) for name in names)
    changed = {path for path, data in uploaded.items() if data != held[path]}
    assert changed == {"README.md", "config.json"}
    for path, data in uploaded.items():
        assert str(tmp_path).encode() not in data, path
    options = json.loads((repo / "config.json").read_text())
    assert (options["dataset"], options["model_dir"]) == ("folder:images", "run")
    assert options["resnet_depth"] == 10


def test_the_card_has_metadata_and_results(published):
    card = huggingface_hub.ModelCard.load(published.root / "me/birds/README.md")
    data = card.data
    assert (data.license, data.library_name, data.model_name) == ("mit", "keras", "birds")
    assert data.pipeline_tag == "image-classification"
    (measured,) = data.eval_results
    expected = result(published.root / "me/birds")["label_top_1_accuracy"]
    assert measured.metric_value == pytest.approx(expected, abs=1e-4)
    assert (measured.dataset_name, measured.dataset_split) == ("folder:images", "test")
    for line in (
        "simclrv2-tf predict hf://me/birds FOLDER",
        "import simclrv2_tf.resnet, simclrv2_tf.heads",
        'hf_hub_download("me/birds", "image_classifier.keras")',
        'snapshot_download("me/birds") + "/hub/6"',
        "under the licence `mit`",
    ):
        assert line in card.text


def test_what_was_published_is_a_model_a_checkpoint_and_a_teacher(published, tmp_path, capsys):
    outputs = []
    for index, model in enumerate(("home/run", "hf://me/birds", "hf://me/birds@v1")):
        table = f"{index}.csv"
        assert cli.main(["predict", model, "images/test", f"--output={table}"]) == 0
        outputs.append((tmp_path / table).read_text())
    assert outputs[0] == outputs[1] == outputs[2]
    assert published.downloads == [("me/birds", None), ("me/birds", "v1")]

    run = ["--mode=train_then_eval", "--dataset=folder:images", "--train_steps=2"]
    run += ["--train_batch_size=8", "--precision=float32", "--use_blur=False"]
    flags = ["--train_mode=finetune", "--checkpoint=hf://me/birds@v1", "--model_dir=tuned"]
    assert small.run([*run, *flags], exports=False) == 0
    name = f"hf://me/birds@{COMMIT}"
    assert f"Starting from the weights in {name}." in capsys.readouterr().out
    assert f"| {name} " in (tmp_path / "tuned/README.md").read_text()
    assert json.loads((tmp_path / "tuned/config.json").read_text())["width_multiplier"] == 0.0625
    again = [*run, *flags]
    assert small.run(again, exports=False) == 0
    assert "nothing to do" in capsys.readouterr().out

    flags = ["--train_mode=distill", "--teacher=hf://me/birds", "--model_dir=student", *SMALL]
    assert small.run([*run, *flags], exports=False) == 0
    taught = result(tmp_path / "student")
    assert taught["teacher_label_top_1_accuracy"] == pytest.approx(
        result(tmp_path / "home/run")["label_top_1_accuracy"]
    )


def test_a_stage_of_a_repository(hub, shared_runs):
    """The whole run uploaded by hand: a folder in the repository names a stage."""
    shutil.copytree(shared_runs("study"), hub.root / "me/all")
    place = hugging_face.local("hf://me/all@main/label_fraction_0.5/fine_tuned")
    assert (Path(place) / "encoder.keras").exists()
    assert hugging_face.name_of(place) == f"hf://me/all@{COMMIT}/label_fraction_0.5/fine_tuned"
    with pytest.raises(UserError, match="has no label_fraction_0.1"):
        hugging_face.local("hf://me/all/label_fraction_0.1")


@pytest.mark.parametrize(
    "name", ["hf://birds", "hf://", "hf://me/birds@", "hf://me/../birds", "hf://me/birds/../../x"]
)
def test_a_name_of_another_form_is_refused(hub, name, capsys):
    message = fails(["--train_mode=finetune", f"--checkpoint={name}"], capsys)
    assert "must be hf://OWNER/REPO" in message and name in message
    assert hub.downloads == []


def test_what_cannot_be_downloaded_or_published_is_one_line(hub, shared_runs, capsys, monkeypatch):
    message = fails(["--train_mode=finetune", "--checkpoint=hf://me/nothing"], capsys)
    assert message == "Error: hf://me/nothing cannot be downloaded (no me/nothing)."
    study = shared_runs("study")
    for arguments, expected in (
        ([study, "me/x"], "must be one stage of a run of several, such as"),
        ([study / "label_fraction_0.5/fine_tuned", "me"], "as OWNER/REPO. Received: me"),
        ([study / "figures", "me/x"], "`RUN` must be the folder of a finished run"),
    ):
        assert cli.main(["publish", *map(str, arguments)]) == 2
        assert expected in capsys.readouterr().err
    monkeypatch.setattr(hugging_face.importlib.util, "find_spec", lambda name: None)
    message = fails(["--train_mode=finetune", "--checkpoint=hf://me/birds"], capsys)
    assert "pip install 'simclrv2-tf[huggingface]'" in message
    assert hub.created == []


def test_other_paths_stay_as_they_are(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert hugging_face.local("~/runs") == "/home/me/runs"
    assert hugging_face.local("gs://bucket/run") == "gs://bucket/run"
    assert hugging_face.name_of("/home/me/runs") is None
    assert model_card.public("hf://me/birds") == "hf://me/birds"
