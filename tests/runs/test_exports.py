"""Formats that are asked for after a run has finished."""

import dataclasses
import tarfile

from helpers import small
from helpers.command_line import files, result
from helpers.shared_runs import command_line
from simclrv2_tf.export import formats


def test_another_format_of_a_finished_run_changes_nothing_else(copied_run, images, monkeypatch):
    """Nor does a kill while it is written."""
    folder = copied_run("supervised")
    card = (folder / "hub" / "2" / "README.md").read_text()
    value = result(folder)["label_top_1_accuracy"]
    cells = [[cell.strip() for cell in line.split("|")] for line in card.splitlines()]
    assert ["", "top-1 accuracy", f"{value:.4f}", ""] in cells
    for text in ("(10 images)", "dark, light", "random"):
        assert text in card
    assert f"folder:{images.name}, " in card and str(images.parent) not in card
    before = files_of(folder)

    def killed(*_):
        raise KeyboardInterrupt

    command = [*command_line("supervised"), "--export_formats=tar.gz"]
    with monkeypatch.context() as patch:
        row = dataclasses.replace(formats.FORMATS["tar.gz"], write=killed)
        patch.setitem(formats.FORMATS, "tar.gz", row)
        assert small.run(command) == 130
    assert small.run(command) == 0
    with tarfile.open(folder / "hub" / "2.tar.gz") as packed:
        assert packed.extractfile("README.md").read().decode() == card
    after = files_of(folder)
    changed = {path for path in after if after[path] != before.get(path)}
    assert before.keys() < after.keys()
    assert {path.name for path in changed} == {"config.json", "run.json", "report.html", "2.tar.gz"}


def files_of(folder):
    """Without logs, to which an evaluation adds."""
    return {path: data for path, data in files(folder).items() if "logs" not in path.parts}
