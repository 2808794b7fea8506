"""A whole run does not mistake the first steps of batch norm for a collapse."""

import csv

from helpers.command_line import SMALL
from simclrv2_tf import run
from simclrv2_tf.experiments.stage import Seams


def test_the_first_steps_of_a_healthy_network_give_no_warning(images, tmp_path, caplog):
    """Its embeddings have one direction while batch norm does not know their mean."""
    command = ["--mode=train", f"--dataset=folder:{images}", *SMALL, "--train_steps=4"]
    command += ["--train_summary_steps=1", f"--model_dir={tmp_path}"]
    assert run.main(["run", *command], Seams(exports=False)) == 0  # of all blocks
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert min(float(row["embedding_spread"]) for row in rows) < 0.01
    assert "Collapse" not in caplog.text
