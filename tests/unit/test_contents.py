"""What a path holds: one answer for weights, teachers, predictions and imports."""

import pytest

from simclrv2_tf.contents import Contents

# What is written, the path to give, its kind, and what else is found: paths below the folder.
TABLE = {
    "nothing": ([], "", None, {}),
    "a run": (
        [
            "config.json",
            "checkpoints/ckpt-3",
            "encoder.keras",
            "head.keras",
            "hub/3/saved_model.pb",
        ],
        "",
        "run",
        {"checkpoint": "checkpoints/ckpt-3", "saved_model": "hub/3"},
    ),
    "a run that is not exported": (
        ["config.json", "checkpoints/ckpt-3", "checkpoints/ckpt-12"],
        "",
        "run",
        {"checkpoint": "checkpoints/ckpt-12"},
    ),
    "a run of several stages": (
        ["config.json", "pretrain/config.json", "pretrain/checkpoints/ckpt-3"]
        + ["pretrain/encoder.keras", "linear_eval/encoder.keras"],
        "",
        "stages",
        {"checkpoint": "pretrain/checkpoints/ckpt-3"},
    ),
    "a run with another one in its folder": (
        ["config.json", "checkpoints/ckpt-3", "pretrain/config.json"],
        "",
        "run",
        {"checkpoint": "checkpoints/ckpt-3"},
    ),
    "an import": (
        ["import.json", "encoder.keras", "classifier.keras", "image_classifier.keras"]
        + ["hub/0/saved_model.pb", "hub/unfinished-1/saved_model.pb", "hub/2.tar.gz"],
        "",
        "files",
        {"saved_model": "hub/0", "image_classifier": "image_classifier.keras"},
    ),
    "exports of several steps": (
        ["encoder.keras", "hub/9/saved_model.pb", "hub/10/saved_model.pb", "hub/11/variables/x"],
        "",
        "files",
        {"saved_model": "hub/10"},
    ),
    "a checkpoint": (
        ["ckpt-3", "ckpt-12"],
        "ckpt-3",
        "checkpoint",
        {"checkpoint": "ckpt-3", "released": "ckpt-3"},
    ),
    "a folder of checkpoints": (
        ["ckpt-3", "ckpt-12"],
        "",
        "checkpoints",
        {"checkpoint": "ckpt-12", "released": "ckpt-12"},
    ),
    "a copy of a checkpoint": (
        ["model.ckpt-7.index"],
        "",
        "checkpoints",
        {"checkpoint": "model.ckpt-7", "released": "model.ckpt-7"},
    ),
    "copies of two checkpoints": (["a.index", "b.index"], "", None, {}),
    "a SavedModel": (
        ["saved_model.pb", "variables/variables.index"],
        "",
        "saved model",
        {"saved_model": "", "released": "variables/variables"},
    ),
    "a .keras file": (["mine.keras", "head.keras"], "mine.keras", "file", {}),
    "a file of another format": (["encoder.onnx"], "encoder.onnx", "file", {}),
    "a folder whose name is a pattern": (
        ["[a]*/config.json", "[a]*/hub/1/saved_model.pb"],
        "[a]*",
        "run",
        {"saved_model": "[a]*/hub/1"},
    ),
}
KERAS_FILES = {
    "a run": ["encoder.keras", "head.keras"],
    "a run of several stages": ["pretrain/encoder.keras"],
    "an import": ["encoder.keras", "classifier.keras"],
    "exports of several steps": ["encoder.keras"],
    "a .keras file": ["mine.keras"],
}


@pytest.mark.parametrize("name", TABLE)
def test_every_kind_is_told(name, tmp_path):
    written, given, kind, found = TABLE[name]
    for path in written:
        path = tmp_path / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        if path.name.startswith("ckpt-"):  # the newest is the last
            path.rename(path.with_name(f"{path.name}.index"))
            state = path.with_name("checkpoint")
            state.write_text(f'model_checkpoint_path: "{path.name}"\n')
    contents = Contents(str(tmp_path / given) if given else str(tmp_path))
    assert contents.kind == kind
    for attribute in ("checkpoint", "released", "saved_model", "image_classifier"):
        expected = str(tmp_path / found[attribute]) if attribute in found else None
        value = getattr(contents, attribute)
        assert (None if value is None else str(value)) == expected, attribute
    files = [str(path.relative_to(tmp_path)) for path in contents.keras_files]
    assert files == KERAS_FILES.get(name, [])


def test_runs_below_a_folder_are_found(tmp_path):
    for path in ("b/encoder.keras", "a/pretrain/encoder.keras", "a/1/2/encoder.keras"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text("")
    assert Contents(str(tmp_path)).runs == [str(tmp_path / path) for path in ("a/pretrain", "b")]
