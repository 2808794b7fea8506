"""What is noted of the images of weights, wherever a path leads to them."""

import json

import pytest

from simclrv2_tf import weights


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize(
    ("note", "paths"),
    [
        ("config.json", ["", "checkpoints", "checkpoints/ckpt-7", "encoder.keras", "hub/7"]),
        ("inputs.json", ["", "encoder.keras"]),
        ("hub/7/assets/inputs.json", ["hub/7"]),
    ],
)
def test_notes_are_found(note, paths, antialias, tmp_path):
    run = tmp_path / "runs" / "run"
    (run / "hub" / "7" / "assets").mkdir(parents=True)
    (run / note).write_text(json.dumps({"image_size": 8, "antialias": antialias}))
    for path in paths:
        assert weights.antialiased(str(run / path)) is antialias


@pytest.mark.parametrize("text", ['{"image_size": 8}', '{"antialias": null}', "[]", "{", ""])
def test_without_a_note_there_was_none(text, tmp_path):
    assert weights.antialiased(str(tmp_path / "nothing")) is False
    (tmp_path / "inputs.json").write_text(text)
    assert weights.antialiased(str(tmp_path)) is False
