"""The same training on 1, 2 and 4 replicas: loss, gradients, statistics, and steps of LARS."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import distillation
from helpers.command_line import SMALL, result
from helpers.processes import python
from helpers.stages import compare


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Values by kind and number of replicas, then by name."""
    folder = tmp_path_factory.mktemp("replicas")
    found, others = {}, []
    for count in (2, 1, 4):  # each resumes what the one before it left
        file = folder / f"{count}.npz"
        python("-m", "helpers.train_on_replicas", file, count, *others)
        for key, value in np.load(file).items():
            kind, name = key.split("|")
            found.setdefault((kind, count), {})[name] = value
        others = [f"{file}.checkpoint"]
    return found


def distances(ours, theirs):
    """By name: the largest difference, relative to the largest value; of gradients, to them all."""
    assert ours.keys() == theirs.keys()
    largest = max(np.abs(v).max() for name, v in theirs.items() if name.startswith("gradient"))
    return {
        name: np.abs(ours[name] - value).max()
        / (largest if name.startswith("gradient") else max(np.abs(value).max(), 1e-3))
        for name, value in theirs.items()
    }


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("part", ["loss", "gradient", "weight", "metric"])
def test_without_batch_norm_replicas_are_one(results, count, part):
    ours, theirs = (
        {name: v for name, v in results["no_bn", c].items() if name.startswith(part)}
        for c in (count, 1)
    )
    assert ours.keys() == theirs.keys() and theirs
    compare(list(ours.values()), list(theirs.values()), 1e-5)


def test_with_global_batch_norm_replicas_are_one(results):
    """To 1e-4, or ten times what a change of the images in their last digit makes."""
    found = distances(results["global_bn", 2], results["global_bn", 1])
    rounding = distances(results["perturbed", 1], results["global_bn", 1])
    assert any(name.endswith("moving_variance") for name in found)
    for name, distance in found.items():
        assert distance < max(1e-4, 10 * rounding[name]), (name, distance, rounding[name])


def test_with_local_batch_norm_they_differ(results):
    """By far more than rounding, from the first gradients on."""
    found = distances(results["local_bn", 2], results["local_bn", 1])
    rounding = distances(results["perturbed", 1], results["global_bn", 1])
    gradients = {name: d for name, d in found.items() if name.startswith("gradient")}
    worst = max(gradients, key=gradients.get)
    assert gradients[worst] > max(0.01, 100 * rounding[worst])
    # With one replica there is nothing to tell local from global.
    assert max(distances(results["local_bn", 1], results["global_bn", 1]).values()) < 1e-6


@pytest.mark.parametrize("count", [1, 4])
def test_what_another_number_of_replicas_began_goes_on_as_if_never_stopped(results, count):
    """Three steps on two, then two on one; and three on one, then two on four."""
    ours, theirs = (
        {
            n.removeprefix("resumed "): v
            for n, v in results["no_bn", c].items()
            if n.startswith(part)
        }
        for c, part in ((count, "resumed"), (1, "weight"))
    )
    assert ours.keys() == theirs.keys() and theirs
    compare(list(ours.values()), list(theirs.values()), 1e-5)


@pytest.mark.parametrize("kind", ["memory", "tico"])
@pytest.mark.parametrize("part", ["loss", "gradient", "weight", "state", "metric"])
def test_what_a_stage_remembers_is_the_same_on_two_replicas(results, kind, part):
    """Queue, momentum network and covariance too: all of the global batch."""
    ours, theirs = (
        {name: v for name, v in results[kind, c].items() if name.startswith(part)} for c in (2, 1)
    )
    assert ours.keys() == theirs.keys() and theirs
    if part == "state":
        assert any(v.any() for name, v in theirs.items() if name[6:] in ("keys", "covariance"))
    compare(list(ours.values()), list(theirs.values()), 1e-5)


@pytest.mark.parametrize("part", ["loss", "gradient", "weight", "metric"])
def test_micro_batches_on_two_replicas_are_those_on_one(results, part):
    """Without batch norm, two micro-batches on each of two replicas are four on one."""
    ours, theirs = (
        {name: v for name, v in results["micro_batches", c].items() if name.startswith(part)}
        for c in (2, 1)
    )
    assert ours.keys() == theirs.keys() and theirs
    compare(list(ours.values()), list(theirs.values()), 1e-5)


def test_distillation_on_two_replicas_is_that_on_one(results):
    """With labelled images and batch norm; the teacher stays as it was."""
    found = distances(results["distill", 2], results["distill", 1])
    assert any(name.endswith("moving_variance") for name in found)
    assert {name.split(" ")[0] for name in found} >= {"loss", "gradient", "weight", "metric"}
    for name, distance in found.items():
        assert distance < 1e-4, (name, distance)
    keras.utils.set_random_seed(0)
    teacher = distillation.teacher_network()
    for count in (1, 2):
        for v in teacher.weights:
            np.testing.assert_array_equal(
                results["distill", count][f"state teacher {v.path}".replace("/", "~")],
                v.numpy(),
                err_msg=v.path,
            )


@pytest.mark.parametrize("kind", ["pseudo_label", "mean_teacher", "fixmatch"])
def test_training_with_unlabelled_images_on_two_replicas_is_that_on_one(results, kind):
    """With batch norm and moving averages over all replicas."""
    found = distances(results[kind, 2], results[kind, 1])
    assert any(n.startswith("state average") and n.endswith("moving_variance") for n in found)
    assert {name.split(" ")[0] for name in found} >= {"loss", "gradient", "weight", "metric"}
    for name, distance in found.items():
        assert distance < 1e-4, (name, distance)


def test_two_replicas_in_bfloat16_train_and_evaluate(images, tmp_path):
    """In a separate process: logical CPUs must be made first."""
    command = ["--mode=train_then_eval", *SMALL, f"--dataset=folder:{images}", "--train_steps=2"]
    command += ["--num_replicas=2", "--precision=mixed_bfloat16", "--eval_batch_size=6"]
    python("-m", "helpers.small_run", "--no_exports", *command, f"--model_dir={tmp_path}")
    # What the padded evaluation on two replicas says is what the exported networks do.
    models = [keras.saving.load_model(tmp_path / f"{n}.keras") for n in ("encoder", "classifier")]
    losses, right = [], 0
    for label, name in enumerate(("dark", "light")):
        for path in sorted((images / "test" / name).iterdir()):
            image = tf.io.decode_png(path.read_bytes()) / 255
            image = tf.clip_by_value(tf.image.resize(image, (16, 16), "bicubic"), 0, 1)[None]
            logits = models[1](models[0](image))[0]
            losses.append(-tf.nn.log_softmax(logits)[label].numpy())
            right += int(np.argmax(logits) == label)
    assert result(tmp_path)["loss"] == pytest.approx(np.mean(losses), rel=2e-2)  # bfloat16
    assert abs(result(tmp_path)["label_top_1_accuracy"] * 10 - right) <= 1
