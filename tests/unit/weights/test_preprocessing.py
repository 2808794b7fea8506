"""What is noted of the images of weights, wherever a path leads to them."""

import json

import pytest

from simclrv2_tf import resnet, weights


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


def test_channels_are_noted_or_those_of_the_first_convolution(tmp_path):
    (tmp_path / "inputs.json").write_text('{"image_size": 8, "channels": 5}')
    assert weights.channels(str(tmp_path)) == 5
    for text in ('{"image_size": 8}', '{"channels": "RGB"}'):  # as earlier versions wrote
        (tmp_path / "inputs.json").write_text(text)
        assert weights.channels(str(tmp_path)) == 3
    (tmp_path / "alone").mkdir()
    for sk_ratio in (0, 0.25):
        file = tmp_path / "alone" / "some" / "encoder.keras"
        file.parent.mkdir(exist_ok=True)
        (tmp_path / "inputs.json").unlink(missing_ok=True)
        resnet.resnet(10, 1 / 16, sk_ratio, blocks=(1,), channels=2).save(file)
        assert weights.channels(str(file)) == 2
    assert weights.channels("r50_1x_sk0") == 3  # of a released model, without reading it
    with pytest.raises(weights.CheckpointError, match="`checkpoint` must be"):
        weights.channels(str(tmp_path / "nothing"))
