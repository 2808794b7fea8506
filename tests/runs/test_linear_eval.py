"""Linear evaluation from the command line, and the weights that a stage begins with."""

import numpy as np
import pytest

from helpers import small
from helpers.command_line import SMALL, change_a_weight, fails, files, keras_weights, result, same
from helpers.shared_runs import command_line


def test_it_leaves_the_encoder_as_it_was(shared_runs, images, tmp_path):
    """The reference's own way, with the options of its README."""
    pretrained = shared_runs("pretrain")
    command = ["--mode=train_then_eval", f"--dataset=folder:{images}", *SMALL]
    command += ["--train_mode=finetune", "--fine_tune_after_block=4"]
    command += ["--zero_init_logits_layer=True", "--global_bn=False"]
    command += [r"--variable_schema=(?!global_step|(?:.*/|^)Momentum|head)"]
    command += ["--optimizer=momentum", "--weight_decay=1e-6", "--train_steps=4"]
    command += [f"--checkpoint={pretrained}", f"--model_dir={tmp_path}"]
    assert small.run(command, exports=False) == 0
    assert result(tmp_path)["global_step"] == 4
    for name, unchanged in (("encoder", True), ("head", True), ("classifier", False)):
        both = (keras_weights(folder, name) for folder in (pretrained, tmp_path))
        assert same(*both) == unchanged, name


def test_pretraining_with_linear_evaluation_beside_random_initialization(copied_run, capsys):
    folder = copied_run("pretrain_linear_eval")
    stages = {name: folder / name for name in ("pretrain", "linear_eval")}
    stages["random"] = folder / "linear_eval_random_init"
    accuracies = {n: result(stage)["label_top_1_accuracy"] for n, stage in stages.items()}
    values = result(folder)
    assert values["label_top_1_accuracy"] == accuracies["linear_eval"]
    assert values["random_init_top_1_accuracy"] == accuracies["random"]
    encoders = {name: keras_weights(stage, "encoder") for name, stage in stages.items()}
    assert same(encoders["pretrain"], encoders["linear_eval"])
    kernels = [next(w for w in weights if w.ndim == 4) for weights in encoders.values()]
    assert not np.array_equal(kernels[0], kernels[2])
    # There is no head to pass on.
    assert (stages["linear_eval"] / "head.keras").exists()
    assert not (stages["random"] / "head.keras").exists()

    capsys.readouterr()
    assert small.run(command_line("pretrain_linear_eval"), exports=False) == 0
    output = capsys.readouterr().out
    assert output.count("Finished before") == 1
    table = [line for line in output.splitlines() if line.startswith("| ")]
    assert len(table) == 5 and f"| {100 * accuracies['random']:.1f} (" in table[-1]
    assert result(folder) == pytest.approx(values)


def test_weights_that_have_changed_since_are_noticed(copied_run, capsys):
    folder = copied_run("pretrain_linear_eval")
    change_a_weight(folder / "pretrain")
    before = files(folder)
    assert "other weights" in fails(command_line("pretrain_linear_eval"), capsys, exports=False)
    assert files(folder) == before


def test_weights_of_another_network_change_nothing(shared_runs, images, capsys, tmp_path):
    command = ["--train_mode=linear_eval", f"--dataset=folder:{images}", *SMALL]
    command += [f"--checkpoint={shared_runs('pretrain')}", "--width_multiplier=0.125"]
    message = fails([*command, f"--model_dir={tmp_path / 'run'}"], capsys)
    assert "another network" in message
    assert not (tmp_path / "run").exists()
