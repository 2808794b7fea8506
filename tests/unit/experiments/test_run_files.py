"""A run's files are read unchanged, and a damaged file is named."""

import json

import numpy as np
import pytest

from helpers import report_runs
from simclrv2_tf.cli import main
from simclrv2_tf.experiments import run_files
from simclrv2_tf.experiments.run_files import RunFilesError
from simclrv2_tf.run_options import OptionsError


def test_a_run_of_stages_is_read_in_its_order(tmp_path):
    run = run_files.read(str(report_runs.run_of_stages(tmp_path / "run")))
    assert [stage.name for stage in run.stages] == [
        "pretrain",
        "linear_eval",
        "linear_eval_random_init",
        *report_runs.METHODS * 2,
    ]
    assert [stage.fraction for stage in run.stages] == [None] * 3 + [0.01] * 4 + [0.1] * 4
    labels = [None, 1000, 1000] + [10] * 4 + [100] * 4
    assert [stage.num_labels for stage in run.stages] == labels
    assert {stage.images for stage in run.stages} == {report_runs.IMAGES}
    assert run.stages[1].title == "linear evaluation, pretrained"
    assert run.stages[-1].encoder == "ResNet-50 0.5x"
    assert run.stages[0].seconds == pytest.approx(2.5 * (1 + 1 / 2 + 1 / 3))
    assert run.stages[0].curve("probe_accuracy") == ([1, 2, 3], [0.4, 0.2, pytest.approx(0.4 / 3)])
    assert run.stages[0].curve("knn_top_1_accuracy") == ([], [])
    assert run.class_names == list(report_runs.NAMES)
    assert run.best is run.stages[-1] and run.baseline(run.best) is run.stages[-4]


def test_a_fraction_follows_from_labels_per_class(tmp_path):
    root = report_runs.run_of_stages(tmp_path / "run", labels_per_class=5)
    for folder in root.glob("labels_per_class_5/*"):
        if folder.name in ("supervised", "fine_tuned"):
            (folder / "labelled_examples.txt").write_text("x\n" * 15)
    run = run_files.read(str(root))
    assert [stage.fraction for stage in run.stages[3:]] == [0.015] * 4
    assert [stage.num_labels for stage in run.stages[3:]] == [15] * 4


@pytest.mark.parametrize(
    ("options", "images"),
    [({}, 60), ({"eval_split": "train"}, 1000), ({"eval_steps": 2, "eval_batch_size": 16}, 32)],
)
def test_evaluated_images_of_a_result_that_does_not_say(tmp_path, options, images):
    root = report_runs.run_of_one(tmp_path / "run", (), train_mode="pretrain", **options)
    assert run_files.read(str(root)).stages[0].images == images


def test_skipped_files_and_views(tmp_path):
    root = report_runs.run_of_one(tmp_path / "run", train_mode="pretrain")
    (root / "skipped_images.csv").write_text('file,reason\na.png,"no, image"\n')
    (root / "views.png").write_bytes(b"picture")
    run = run_files.read(str(root))
    assert run.skipped == [("a.png", "no, image")] and run.views == b"picture"


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("result.json", "{", RunFilesError),
        ("run.json", "[]", RunFilesError),
        ("config.json", "{", OptionsError),
    ],
)
def test_a_damaged_file_is_named_in_one_line(tmp_path, name, content, error):
    root = report_runs.run_of_one(tmp_path / "run", train_mode="supervised")
    (root / name).write_text(content)
    with pytest.raises(error, match=f"{name} cannot be read") as caught:
        run_files.read(str(root))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("calibration.json", b"[]"),
        ("calibration.json", b'{"supervised": {"top1": 0.5}}'),
        ("predictions.csv", b"file,class\n1,2\n"),
        ("representations.npz", b"x"),
        ("history.csv", b"\xff\xfe\x00"),
        ("history.csv", b"epoch,loss,seconds\n1,many,2\n"),
        ("history.csv", b"epoch,loss,seconds\n1,2,3,4\n"),
        ("skipped_images.csv", b"other\n1\n"),
    ],
)
def test_a_damaged_file_that_is_not_needed_is_left_out_and_named(
    tmp_path, capsys, caplog, name, content
):
    root = report_runs.run_of_one(tmp_path / "run", train_mode="supervised")
    (root / name).write_bytes(content)
    run = run_files.read(str(root))
    ((file, reason),) = run.unreadable
    assert file == name and reason and "\n" not in reason
    (record,) = caplog.records
    assert f"{name} cannot be read ({reason}). The report omits it." in record.getMessage()
    assert main(["report", str(root)]) == 0
    assert "Traceback" not in capsys.readouterr().err
    page = report_runs.Page((root / "report.html").read_text())
    assert f"Omitted files that cannot be read: {name} ({reason})." in page.text
    assert "Cost" in page.headings and "failed" not in page.text
    assert "pickle" not in reason
    # No time is shown where none is known.
    (row,) = page.table("stage", "encoder")
    assert (row["seconds"][0] == "–") == ("Time" not in page.text) == (name == "history.csv")


def test_samples_of_other_shapes_are_left_out(tmp_path):
    root = report_runs.run_of_one(tmp_path / "run", train_mode="pretrain")
    held = dict(np.load(root / "representations.npz"))
    np.savez(root / "representations.npz", **held | {"ids": held["ids"][1:]})
    run = run_files.read(str(root))
    assert run.samples is None and run.unreadable[0][0] == "representations.npz"


def test_a_record_of_another_structure_is_one_line(tmp_path, capsys):
    root = report_runs.run_of_one(tmp_path / "run", train_mode="supervised")
    (root / "run.json").write_text('{"made_of": {"data": {"main": {"splits": {"train": 3}}}}}')
    assert main(["report", str(root)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"Error: The run in {root} cannot be read")


def test_a_folder_that_holds_no_run(tmp_path):
    with pytest.raises(
        RunFilesError, match="must be the folder of a run. Received: .*no such folder"
    ):
        run_files.read(str(tmp_path / "missing"))
    (tmp_path / "sub" / "pretrain").mkdir(parents=True)
    with pytest.raises(RunFilesError, match="in which no stage has started"):
        run_files.read(str(tmp_path))
    (tmp_path / "config.json").write_text('{"train_mode": "other"}')
    with pytest.raises(RunFilesError, match="Received: train_mode='other'"):
        run_files.read(str(tmp_path))


def test_results_of_an_earlier_version_have_intervals_too(tmp_path):
    root = report_runs.run_of_one(tmp_path / "run", train_mode="supervised")
    (before,) = run_files.read(str(root)).stages
    path = root / "result.json"
    held = json.loads(path.read_text())
    for name in ("images", "label_top_1_low", "label_top_1_high"):
        held.pop(name)
    path.write_text(json.dumps(held))
    (after,) = run_files.read(str(root)).stages
    assert after.images == before.images == report_runs.IMAGES
    assert after.interval == pytest.approx(before.interval)
