"""The short commands one after the other, as a user types them, on a folder of few images."""

import json

import pytest

from helpers import small
from simclrv2_tf.cli import main

QUICK = ["--preset=quick", "--epochs=1", "--depth=10", "--width=0.0625", "--image_size=16"]
QUICK += ["--precision=float32"]


@pytest.fixture
def short(monkeypatch, tmp_path):
    """Runs a short command with small networks, in its own folder; returns its status."""
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("simclrv2_tf.run.main", small.command.main)
        small.everywhere(exports=False)
        yield main


def test_pretrain_finetune_distill_and_predict(short, images, tmp_path, capsys):
    assert short(["pretrain", str(images), *QUICK]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Output: runs/images-pretrain\n")
    tuned = ["finetune", "runs/images-pretrain", "--labels", str(images), "--preset=quick"]
    assert short([*tuned, "--epochs=1", "--precision=float32"]) == 0
    assert "Network as in runs/images-pretrain/config.json" in capsys.readouterr().out
    assert short([*tuned, "--epochs=1", "--precision=float32"]) == 0
    assert "Finished before" in capsys.readouterr().out
    student = ["distill", "runs/images-finetune", "--preset=quick", "--epochs=1"]
    assert short([*student, "--precision=float32"]) == 0
    configs = [
        json.loads((tmp_path / f"runs/images-{name}/config.json").read_text())
        for name in ("pretrain", "finetune", "distill")
    ]
    for name in ("resnet_depth", "width_multiplier", "image_size"):
        assert len({config[name] for config in configs}) == 1
    assert configs[0]["width_multiplier"] == 0.0625
    assert short(["predict", "runs/images-distill", str(images), "--output=classes.csv"]) == 0
    assert len((tmp_path / "classes.csv").read_text().splitlines()) > 24
