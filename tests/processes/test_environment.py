"""What the commands set before they import TensorFlow."""

import os
import subprocess
import sys
import textwrap

import pytest

from helpers.processes import python
from simclrv2_tf import environment

# Prints the variable's value at the moment when TensorFlow is first imported, and ends.
PROGRAM = """
    import builtins, importlib, os, sys

    real = builtins.__import__

    def watched(name, *args, **kwargs):
        if name.split(".")[0] == "tensorflow":
            print(os.environ.get("TF_ENABLE_ONEDNN_OPTS"), flush=True)
            os._exit(0)
        return real(name, *args, **kwargs)

    builtins.__import__ = watched
    module, *flags = sys.argv[1:]
    # An installed command's `main` takes the program's name in its list; the others' do not.
    name = ["run"] if module == "simclrv2_tf.run" else []
    importlib.import_module(module).main(name + flags)
    sys.exit("TensorFlow was not imported")
"""
COMMANDS = {
    "simclrv2_tf.run": ["--dataset=no_such_set", "--model_dir=none"],
    "simclrv2_tf.predict": ["--model=model.keras", "--images=nowhere"],
    "simclrv2_tf.official.__main__": ["--source=nowhere", "--output=none"],
}


@pytest.mark.parametrize("module", COMMANDS)
@pytest.mark.parametrize("given", [None, "0"])
def test_commands_turn_onednn_on_unless_the_user_set_it(module, given, tmp_path, monkeypatch):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    if given is not None:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", given)
    (tmp_path / "model.keras").touch()  # read by Keras
    program = ["-c", textwrap.dedent(PROGRAM), module, *COMMANDS[module]]
    assert python(*program, cwd=tmp_path).split()[-1] == (given or "1")


START = """
    import sys
    from simclrv2_tf import environment

    environment.start(chooses_devices=True)
    import tensorflow as tf
    from simclrv2_tf import distribute

    # A choice of devices, which is refused once an operation has run.
    assert distribute.make_strategy("auto", num_replicas=2).num_replicas_in_sync == 2
    environment.first_operation()
    turned = tf.function(lambda x: tf.transpose(x, (1, 0, 2)), autograph=False)
    turned(tf.zeros((4, 4, 3), tf.uint8))  # as images are turned by their orientation
    sys.stderr.write("an error of ours")
"""


@pytest.mark.skipif(environment.accelerator_nodes() is not False, reason="all is shown with a GPU")
@pytest.mark.skipif(environment.accelerator_nodes() is not False, reason="all is shown with a GPU")
def test_a_run_chooses_its_devices_as_a_user_starts_it(tmp_path, monkeypatch):
    """Without a variable that keeps `start` from catching what TensorFlow writes."""
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    command = [sys.executable, "-m", "simclrv2_tf.run", "--num_replicas=2", "--dataset=nothing"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    # The data set is opened once the devices have been chosen.
    assert done.stderr.startswith("Error: `dataset` must be fashion_mnist_small"), done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_nothing_but_errors_is_written_beside_a_run(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(START)], capture_output=True, text=True, check=True
    )
    assert done.stderr == "an error of ours"


def test_prepare_keeps_what_is_set(monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    environment.prepare()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "1"


@pytest.mark.parametrize("kind", [None, "GPU", "TPU"])
def test_grappler_is_off_on_processors_alone(kind, monkeypatch):
    import tensorflow as tf

    set_options = []
    monkeypatch.setattr(tf.config.optimizer, "set_experimental_options", set_options.append)
    monkeypatch.setattr(
        tf.config, "list_physical_devices", lambda asked: [asked] if asked == kind else []
    )
    environment.skip_graph_rewrites()
    assert set_options == ([] if kind else [{"disable_meta_optimizer": True}])


@pytest.mark.parametrize(
    ("platform", "nodes", "expected"),
    [("linux", {"/dev/nvidiactl"}, True), ("linux", set(), False), ("darwin", set(), None)],
)
def test_accelerators_are_told_from_device_nodes(platform, nodes, expected, monkeypatch):
    monkeypatch.setattr(environment.sys, "platform", platform)
    monkeypatch.setattr(environment.os.path, "exists", nodes.__contains__)
    assert environment.accelerator_nodes() is expected
