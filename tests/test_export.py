"""Exports loaded where this package is not: same outputs, and fine-tuning that trains them."""

import json
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclrv2_tf import heads, resnet
from simclrv2_tf.export import export


def networks(depth=10, sk_ratio=0.0):
    keras.utils.set_random_seed(1)
    encoder = resnet.resnet(depth, 1 / 16, sk_ratio, image_size=16)
    head = heads.projection_head(encoder.output_shape[-1], 3, 8)
    classifier = heads.classifier(encoder.output_shape[-1], 4)
    for model in (encoder, head):  # as after some training: no branch is switched off
        for variable in model.weights:
            if variable.path.endswith("gamma"):
                variable.assign(keras.random.uniform(variable.shape, 0.5, 1.0, seed=2))
    return encoder, head, classifier


IMAGES = np.random.default_rng(0).random((3, 16, 16, 3), dtype=np.float32)

LOAD = textwrap.dedent(
    """
    import json, sys
    import numpy as np, tensorflow as tf, tensorflow_hub as hub
    sys.modules["simclrv2_tf"] = None  # importing it fails
    images = np.load(sys.argv[2])
    module = hub.load(sys.argv[1])
    outputs = module.signatures["serving_default"](tf.constant(images))
    np.savez(sys.argv[3], call=module(images), **{k: v.numpy() for k, v in outputs.items()})
    module(np.zeros((2, 24, 40, 3), np.float32))  # another size

    before = {v.name + str(i): v.numpy() for i, v in enumerate(module.variables)}
    labels = tf.constant([0, 1, 2])
    losses = []
    for _ in range(20):
        with tf.GradientTape() as tape:
            logits = module(images, training=True)
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        gradients = tape.gradient(loss, module.trainable_variables)
        used = [(g, v) for g, v in zip(gradients, module.trainable_variables) if g is not None]
        for g, v in used:
            v.assign_sub(0.05 * g)
        losses.append(float(loss))
    moved = [v.name for i, v in enumerate(module.variables)
             if np.any(v.numpy() != before[v.name + str(i)])]
    print(json.dumps({"losses": losses, "moved": moved, "trained": len(used),
                      "total": len(module.variables)}))
    """
)


def test_loads_and_fine_tunes_in_a_new_process_without_this_package(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_hub")
    monkeypatch.setitem(resnet.BLOCKS, 50, (2, 1, 1, 1))  # each kind of block, with SK
    encoder, head, classifier = networks(50, 0.0625)
    export(str(tmp_path / "module"), encoder, head, classifier, classifier_layer=1)
    np.save(tmp_path / "images.npy", IMAGES)
    arguments = [str(tmp_path / name) for name in ("module", "images.npy", "outputs.npz")]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *arguments], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    outputs = dict(np.load(tmp_path / "outputs.npz"))
    expected = {k: v.numpy() for k, v in resnet.features(encoder)(IMAGES).items()}
    hiddens = head(expected["representation"])
    expected["projection"] = hiddens[-1].numpy()
    expected["logits"] = expected["call"] = classifier(hiddens[1]).numpy()
    assert outputs.keys() == expected.keys()
    for name, value in expected.items():
        scale = np.abs(value).max()
        np.testing.assert_allclose(outputs[name], value, atol=1e-5 * scale, err_msg=name)

    report = json.loads(done.stdout.splitlines()[-1])
    assert report["losses"][-1] < 0.5 * report["losses"][0], report["losses"]
    assert any("kernel" in name for name in report["moved"])
    assert any("moving_mean" in name for name in report["moved"])
    assert report["trained"] > 80
    assert report["total"] == sum(len(m.weights) for m in (encoder, head, classifier))


def test_endpoints_follow_what_is_given(tmp_path):
    encoder, head, _ = networks()
    export(str(tmp_path / "a"), encoder)
    module = tf.saved_model.load(str(tmp_path / "a"))
    assert set(module.signatures) == {"serving_default", "features", "representation"}
    np.testing.assert_allclose(module(IMAGES), encoder(IMAGES), rtol=1e-4, atol=1e-6)
    export(str(tmp_path / "b"), encoder, head, output="projection")
    module = tf.saved_model.load(str(tmp_path / "b"))
    expected = head(encoder(IMAGES))[-1]
    np.testing.assert_allclose(module(IMAGES), expected, rtol=1e-4, atol=1e-5)
    assert list(module.regularization_losses) == []


def test_bad_arguments(tmp_path):
    encoder, _, classifier = networks()
    with pytest.raises(ValueError, match="classifier_layer=1"):
        export(str(tmp_path / "a"), encoder, None, classifier, classifier_layer=1)
    with pytest.raises(ValueError, match="output='logits'"):
        export(str(tmp_path / "a"), encoder, output="logits")
    assert not (tmp_path / "a").exists()
