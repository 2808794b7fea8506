"""The report that a run writes."""

import logging

import pytest

from helpers import report_runs
from simclrv2_tf.experiments import report_page


def test_a_report_goes_into_the_folder_of_the_run(tmp_path):
    root = report_runs.run_of_one(tmp_path / "run", train_mode="supervised")
    path = report_page.write([str(root)])
    assert path == root / "report.html" and path.read_text().startswith("<!doctype html>")
    other = report_page.write([str(root)], str(tmp_path / "other.html"))
    assert other.exists()
    with pytest.raises(ValueError, match="`output` must be given for several runs. Received: 2"):
        report_page.write([str(root)] * 2)


def test_what_prevents_a_report_is_one_line_of_the_log(tmp_path, monkeypatch, caplog):
    root = report_runs.run_of_one(tmp_path / "run", train_mode="supervised")
    before = (root / "result.json").read_bytes()

    def fail(*args):
        raise RuntimeError("no font\nat all")

    monkeypatch.setattr(report_page.run_files, "read", fail)
    with caplog.at_level(logging.WARNING):
        assert report_page.write_or_log(str(root)) is None
    (record,) = caplog.records
    message = record.getMessage()
    assert "could not be written (RuntimeError: no font)" in message and "\n" not in message
    assert f"simclrv2-tf report {root}" in message
    assert (root / "result.json").read_bytes() == before
    assert not (root / "report.html").exists()
