"""`simclrv2-tf report`."""

from pathlib import Path

import pytest

from helpers import report_runs
from helpers.paths import ROOT
from helpers.processes import python
from simclrv2_tf.cli import main


def test_the_page_is_written_and_named(tmp_path, capsys):
    root = report_runs.run_of_one(tmp_path / "run", train_mode="supervised")
    assert main(["report", str(root)]) == 0
    assert capsys.readouterr().out == f"{root / 'report.html'}\n"
    output = tmp_path / "page.html"
    assert main(["report", str(root), f"--output={output}"]) == 0
    assert output.read_text().count("<h1>run</h1>") == 1


def test_several_runs_by_default_in_this_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        report_runs.run_of_one(tmp_path / name, train_mode="supervised")
    assert main(["report", "a", "b"]) == 0
    assert capsys.readouterr().out == "report.html\n"
    assert "Side by side" in (tmp_path / "report.html").read_text()
    # The same run twice is one run.
    assert main(["report", "a", "a"]) == 0
    assert (tmp_path / "a" / "report.html").exists()


@pytest.mark.parametrize("output", ["out", "out/", "."])
def test_a_folder_as_output_holds_the_report_and_keeps_its_files(
    tmp_path, capsys, monkeypatch, output
):
    report_runs.run_of_one(tmp_path / "run", train_mode="supervised")
    folder = tmp_path / output
    folder.mkdir(exist_ok=True)
    (folder / "mine.txt").write_text("kept")
    monkeypatch.chdir(tmp_path)
    assert main(["report", "run", f"--output={output}"]) == 0
    assert Path(capsys.readouterr().out.strip()) == Path(output, "report.html")
    assert "<h1>run</h1>" in (folder / "report.html").read_text()
    assert (folder / "mine.txt").read_text() == "kept"
    assert (tmp_path / "run" / "result.json").exists()


def test_a_missing_folder_is_one_line(tmp_path, capsys):
    assert main(["report", str(tmp_path / "none")]) == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith("Error: `run` must be the folder of a run. Received: ")
    with pytest.raises(SystemExit) as caught:
        main(["report"])
    assert caught.value.code == 2


def test_no_tensorflow_is_imported(tmp_path):
    root = report_runs.run_of_stages(tmp_path / "run")
    code = f"""
import sys
from simclrv2_tf.cli import main
assert main(["report", {str(root)!r}]) == 0
slow = {{"tensorflow", "keras"}} & set(sys.modules)
assert not slow, slow
"""
    python("-c", code, cwd=tmp_path, PYTHONPATH=str(ROOT))
