"""The same training on 1, 2 and 4 replicas: loss, gradients, statistics, and steps of LARS."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

RUN = textwrap.dedent(
    """
    import sys
    import numpy as np, tensorflow as tf
    from simclrv2_tf import distribute
    count = int(sys.argv[3])
    strategy = distribute.make_strategy("mirrored" if count > 1 else "default", count)
    sys.path.insert(0, sys.argv[1])
    import test_micro_batch, test_stages
    from simclrv2_tf import batch_norm, loop, optimizers

    def networks(kind):
        if kind == "no_bn":
            return test_micro_batch.without_batch_norm()
        encoder, head, classifier = test_stages.tiny(
            classifier_layer=1, global_batch_norm=kind == "global_bn"
        )
        for v in encoder.weights:  # small last gammas keep batch norm's rounding small
            if v.path.endswith("bn2/gamma"):
                v.assign(0.1 * np.ones(v.shape))
        return encoder, head, classifier

    def measure(kind, noise=0.0):
        def batches(context):
            def perturbed(views, labels):
                return tuple(v * (1 + noise * (2 * v - 1)) for v in views), labels
            data = test_stages.batches_from(8)(context).map(perturbed)
            return data.rebatch(8 // count) if count > 1 else data

        with strategy.scope():
            stage = test_micro_batch.make(networks(kind))
            stage.optimizer.build(stage.trainable_variables)
        iterator = iter(strategy.distribute_datasets_from_function(batches))

        @tf.function(autograph=False)
        def first(batch):
            losses, gradients = strategy.run(stage.loss_and_gradients, args=(batch,))
            total = [strategy.reduce("SUM", g, axis=None) for g in gradients]
            return strategy.reduce("MEAN", losses, axis=None), total

        loss, gradients = first(next(iterator))
        found = {"loss": loss.numpy()}
        paths = [v.path for v in stage.trainable_variables]
        found |= {f"gradient {p}": g.numpy() for p, g in zip(paths, gradients)}
        options = dict(schedule=lambda s: 0.1, total_steps=5, epochs=1, verbose=0)
        loop.train(stage, strategy, batches, **options)
        models = (stage.encoder, stage.head, stage.classifier)
        found |= {f"weight {v.path}": v.numpy() for m in models for v in m.weights}
        found |= {f"metric {k}": float(v) for k, v in stage.get_metrics_result().items()}
        return found

    results = {kind: measure(kind) for kind in ("no_bn", "global_bn", "local_bn")}
    if count == 1:
        results["perturbed"] = measure("global_bn", noise=1e-7)
    np.savez(sys.argv[2], **{
        f"{kind}|{name.replace('/', '~')}": value
        for kind, values in results.items() for name, value in values.items()
    })
    """
)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Values by kind and number of replicas, then by name."""
    folder = tmp_path_factory.mktemp("replicas")
    found = {}
    for count in (1, 2, 4):  # in processes of their own: two strategies get into each other's way
        file = folder / f"{count}.npz"
        done = subprocess.run(
            [sys.executable, "-c", RUN, os.path.dirname(__file__), str(file), str(count)],
            capture_output=True,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        for key, value in np.load(file).items():
            kind, name = key.split("|")
            found.setdefault((kind, count), {})[name] = value
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
def test_without_batch_norm_replicas_are_one(results, count):
    found = distances(results["no_bn", count], results["no_bn", 1])
    assert len(found) > 20 and max(found.values()) < 1e-5, found


@pytest.mark.parametrize("count", [2, 4])
def test_with_global_batch_norm_replicas_are_one(results, count):
    """To 1e-4, or ten times what a change of the images in their last digit makes."""
    found = distances(results["global_bn", count], results["global_bn", 1])
    rounding = distances(results["perturbed", 1], results["global_bn", 1])
    assert any(name.endswith("moving_variance") for name in found)
    for name, distance in found.items():
        assert distance < max(1e-4, 10 * rounding[name]), (name, distance, rounding[name])


@pytest.mark.parametrize("count", [2, 4])
def test_with_local_batch_norm_they_differ(results, count):
    """By far more than rounding, from the first gradients and the first layer's statistics on."""
    found = distances(results["local_bn", count], results["local_bn", 1])
    rounding = distances(results["perturbed", 1], results["global_bn", 1])
    gradients = {name: d for name, d in found.items() if name.startswith("gradient")}
    worst = max(gradients, key=gradients.get)
    assert gradients[worst] > max(0.01, 100 * rounding[worst])
    # With one replica there is nothing to tell local from global.
    assert max(distances(results["local_bn", 1], results["global_bn", 1]).values()) < 1e-6
