"""A whole run warns of collapse and divergence, and not of the first steps of batch norm."""

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


def test_a_run_that_diverges_says_why_and_where_it_was_finite(images, tmp_path, capsys):
    """The first rate of a warm-up is 0, the second moves weights far, the third step sees that."""
    command = ["--mode=train", f"--dataset=folder:{images}", *SMALL, "--train_steps=4"]
    command += ["--checkpoint_steps=1", "--learning_rate=1e30", "--warmup_epochs=2"]
    assert run.main(["run", *command, f"--model_dir={tmp_path}"], Seams(exports=False)) == 1
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("Error: ")]
    last = tmp_path / "checkpoints" / "ckpt-2"
    assert (
        " step 3 of 4," in line
        and f"finite checkpoint is {last}. Likely causes: a learning" in line
    )
    advice = "at its peak (--learning_rate, --warmup_epochs). Change these settings in another"
    assert advice in line
    found = sorted(path.name for path in last.parent.glob("*.index"))
    assert found == ["ckpt-1.index", "ckpt-2.index"]
