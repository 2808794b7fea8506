"""`simclrv2-tf`: help, versions and mistakes, each without TensorFlow."""

import pytest

from helpers.paths import ROOT
from helpers.processes import python
from simclrv2_tf import __version__, evaluate, predict, run
from simclrv2_tf.cli import main
from simclrv2_tf.cli.commands import COMMANDS, TRAININGS
from simclrv2_tf.config.other_names import OTHER_NAMES
from simclrv2_tf.official import __main__ as official
from simclrv2_tf.suggest import command as suggest


@pytest.mark.parametrize(("args", "status"), [([], 2), (["--help"], 0), (["-h"], 0), (["help"], 0)])
def test_help_names_every_command_and_examples(args, status, capsys):
    assert main(args) == status
    text = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"  {name} " in text and command.summary in text
    assert text.count("\n  simclrv2-tf ") == 3
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("name", TRAININGS)
def test_a_command_explains_itself(name, capsys):
    assert main([name, "anything", "--help"]) == 0
    text = capsys.readouterr().out
    assert main(["help", name]) == 0
    assert capsys.readouterr().out == text
    for expected in (COMMANDS[name].usage, COMMANDS[name].example, "--dry_run", *OTHER_NAMES):
        assert expected in text
    assert max(map(len, text.splitlines())) <= 100


def test_helpfull_lists_every_flag(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["pretrain", "--helpfull"])
    assert caught.value.code == 0
    assert "--proj_hidden_dim" in capsys.readouterr().out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"simclrv2-tf {__version__}\n"


@pytest.mark.parametrize(
    ("given", "meant"), [("pretrian", "pretrain"), ("fine-tune", "finetune"), ("xyz", None)]
)
def test_an_unknown_command_suggests_the_nearest(given, meant, capsys):
    assert main([given, "photos"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.endswith(f"Received: {given}")
    assert ("Did you mean" in line) == (meant is not None)
    assert meant is None or f"Did you mean `{meant}`?" in line


def test_commands_pass_their_arguments_on(monkeypatch):
    passed = {}
    for module in (run, predict, official, evaluate, suggest):
        name = module.__name__
        monkeypatch.setattr(
            module, "main", lambda args, name=name, **_: passed.update({name: args})
        )
    main(["demo", "--seed=3"])
    main(["predict", "runs/a", "photos", "--top_k", "3"])
    main(["evaluate", "runs/a", "--dataset=folder:b"])
    main(["import", "r50", "models/r50", "--list"])
    main(["suggest", "runs/a", "photos", "--count=3"])
    assert passed == {
        "simclrv2_tf.run": ["simclrv2-tf", "--mode=train_then_eval", "--seed=3"],
        "simclrv2_tf.predict": ["--model=runs/a", "--images=photos", "--top_k", "3"],
        "simclrv2_tf.evaluate": ["--model=runs/a", "--dataset=folder:b"],
        "simclrv2_tf.official.__main__": ["--source=r50", "--output=models/r50", "--list"],
        "simclrv2_tf.suggest.command": ["--model=runs/a", "--images=photos", "--count=3"],
    }
    main(["import", "--list"])
    assert passed["simclrv2_tf.official.__main__"] == ["--list"]


def test_help_and_mistakes_import_nothing_that_takes_long(tmp_path):
    code = f"""
import sys
from simclrv2_tf.cli import main
for args in ([], ["--help"], ["--version"], ["pretrian"], *([n, "--help"] for n in {[*TRAININGS]})):
    main(args)
slow = {{"tensorflow", "keras", "numpy", "absl", "simclrv2_tf.options"}} & set(sys.modules)
assert not slow, slow
assert main(["pretrain"]) == 2
assert main(["pretrain", "no/such/folder"]) == 2
heavy = {{"tensorflow", "keras", "numpy"}} & set(sys.modules)
assert not heavy, heavy
"""
    python("-c", code, cwd=tmp_path, PYTHONPATH=str(ROOT))


def test_the_module_is_the_program(tmp_path):
    out = python("-m", "simclrv2_tf", "--version", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert out == f"simclrv2-tf {__version__}\n"
