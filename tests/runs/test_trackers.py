"""Experiment trackers, offline: Weights & Biases into files, MLflow into a store in a file."""

import importlib.util
import json
import struct

import mlflow
import pytest
import wandb
from wandb.proto import wandb_internal_pb2

from helpers import small
from helpers.command_line import SMALL, fails, result
from simclrv2_tf.errors import UserError
from simclrv2_tf.training import trackers
from simclrv2_tf.training.callbacks import SaveCheckpoints

RUN = ["--mode=train_then_eval", "--dataset=folder:images", *SMALL, "--train_mode=supervised"]
RUN += ["--train_epochs=2", "--model_dir=runs/birds/seed_0", "--report_to=wandb,mlflow"]


@pytest.fixture
def offline(tmp_path, monkeypatch, shared_runs):
    """Trackers that write below `tmp_path`, the current folder, which has images too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").symlink_to(shared_runs.made("images"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    yield tmp_path
    wandb.teardown()


def wandb_records(path):
    """The records of an offline run: a LevelDB log after a header of 7 bytes."""
    data, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768  # of the block; the rest of one that has no place for a header
        if left < 7:
            at += left
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        record += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            parsed = wandb_internal_pb2.Record()
            parsed.ParseFromString(record)
            yield parsed
            record = b""


def wandb_sessions(folder):
    """Each offline session in order of time: (run record, history rows, summary, exit code)."""
    found = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        about, rows, summary, status = None, [], {}, None
        for record in wandb_records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                about = record.run
            elif kind == "history":
                items = record.history.item
                rows.append(
                    {(i.key or "/".join(i.nested_key)): json.loads(i.value_json) for i in items}
                )
            elif kind == "summary":
                for item in record.summary.update:
                    key = item.key or "/".join(item.nested_key)
                    summary[key] = json.loads(item.value_json)
            elif kind == "exit":
                status = record.exit.exit_code
        found.append((about, rows, summary, status))
    return found


def test_a_resumed_stage_resumes_its_runs(offline, monkeypatch):
    """Stopped after one of two epochs: each epoch once, in one run of each tracker."""
    save = SaveCheckpoints.on_epoch_end

    def save_and_stop(self, epoch, logs=None):
        save(self, epoch, logs)
        raise UserError("stopped by the test")

    with monkeypatch.context() as patch:
        patch.setattr(SaveCheckpoints, "on_epoch_end", save_and_stop)
        assert small.run(RUN, exports=False) != 0
    ids = json.loads((offline / "runs/birds/seed_0/trackers.json").read_text())
    assert mlflow.get_run(ids["mlflow"]).info.status == "FAILED"
    assert small.run([*RUN, "--verbose"], exports=False) == 0
    assert json.loads((offline / "runs/birds/seed_0/trackers.json").read_text()) == ids

    measured = result(offline / "runs/birds/seed_0")
    history = (offline / "runs/birds/seed_0/history.csv").read_text().splitlines()
    losses = [float(row.split(",")[history[0].split(",").index("loss")]) for row in history[1:]]

    sessions = wandb_sessions(offline)
    assert [about.run_id for about, *_ in sessions] == [ids["wandb"]] * 2
    assert [status for *_, status in sessions] == [1, 0]
    assert {(s.project, s.run_group, s.display_name) for s, *_ in sessions} == {
        ("simclrv2_tf", "birds/seed_0", "birds/seed_0")
    }
    rows = [row for _, session, *_ in sessions for row in session if "epoch/loss" in row]
    assert [row["epoch/epoch"] for row in rows] == [0, 1]
    assert [row["epoch/loss"] for row in rows] == pytest.approx(losses)
    summary = sessions[1][2]
    assert summary["eval/label_top_1_accuracy"] == measured["label_top_1_accuracy"]

    client, run = mlflow.MlflowClient(), mlflow.get_run(ids["mlflow"])
    assert (run.info.status, run.info.run_name, run.data.tags["group"]) == (
        *("FINISHED", "birds/seed_0", "birds/seed_0"),
    )
    logged = client.get_metric_history(ids["mlflow"], "loss")
    assert [(m.step, m.value) for m in logged] == list(enumerate(pytest.approx(v) for v in losses))
    assert run.data.metrics["eval/label_top_1_accuracy"] == measured["label_top_1_accuracy"]
    assert run.data.params["train_epochs"] == "2"
    experiment = client.get_experiment(run.info.experiment_id)
    assert experiment.name == "simclrv2_tf"
    assert len(client.search_runs([run.info.experiment_id])) == 1


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_file_of_ids_is_one_line(text, tmp_path):
    """No new run is started in its place."""
    (tmp_path / trackers.FILE).write_text(text)
    tracking = trackers.Tracking(["wandb"], tmp_path)
    with pytest.raises(trackers.TrackerError, match="cannot be read .* Move that file away"):
        tracking.start(trackers.Description("birds", "birds", {}))
    assert (tmp_path / trackers.FILE).read_text() == text


def test_trackers_are_checked_before_any_work(offline, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        find = importlib.util.find_spec
        patch.setattr(importlib.util, "find_spec", lambda n: None if n == "wandb" else find(n))
        message = fails(RUN, capsys)
        assert "pip install 'simclrv2-tf[wandb]'" in message
    with monkeypatch.context() as patch:
        patch.setenv("WANDB_MODE", "online")
        patch.setenv("HOME", str(offline))  # no key
        patch.delenv("WANDB_API_KEY", raising=False)
        assert "`report_to` cannot use wandb" in fails(RUN, capsys)
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # where nothing listens
        message = fails([*RUN, "--report_to=mlflow"], capsys)
        assert "`report_to` cannot use mlflow" in message and "report_to=mlflow" in message
    assert "must be one of wandb, mlflow" in fails([*RUN, "--report_to=tensorboard"], capsys)
    assert not (offline / "runs").exists()
