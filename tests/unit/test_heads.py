"""The projection head: every layer is an output, and a file gives the same."""

import keras
import numpy as np
import pytest

from simclrv2_tf import heads


@pytest.mark.parametrize(
    ("mode", "widths"),
    [("nonlinear", [8, 8, 8, 4]), ("linear", [8, 4]), ("none", [8, 8])],
)
def test_head_modes_expose_every_layer(mode, widths, tmp_path):
    head = heads.projection_head(8, 3, 4, mode)
    x = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    hiddens = head(x)
    assert [h.shape[-1] for h in hiddens] == widths
    np.testing.assert_array_equal(hiddens[0], x)
    for k in range(-1, len(widths)):
        np.testing.assert_allclose(heads.up_to(head, k)(x), hiddens[k], rtol=1e-6)
    if mode == "nonlinear":
        assert np.min(hiddens[1]) == 0 and np.min(hiddens[-1]) < 0
    assert not any(v.path.endswith("bias") for v in head.weights)
    embedding_bn = [
        v.path for v in head.weights if v.path.startswith(f"projection{len(widths) - 1}_bn")
    ]
    assert not any("beta" in path for path in embedding_bn)
    head.save(tmp_path / "head.keras")
    for got, expected in zip(
        keras.saving.load_model(tmp_path / "head.keras")(x), hiddens, strict=True
    ):
        np.testing.assert_array_equal(got, expected)
    with pytest.raises(ValueError, match="`layer` must be in -1"):
        heads.up_to(head, len(widths))


def test_the_last_batch_norm_may_have_neither_scale_nor_shift():
    """SimSiam's projector (arXiv 2011.10566, section 3)."""
    plain, bare = (heads.projection_head(8, 3, 4, output_scale=scale) for scale in (True, False))
    assert {v.path for v in plain.weights} - {v.path for v in bare.weights} == {
        "projection3_bn/gamma"
    }
    weights = {v.path: v for v in plain.weights}
    for v in bare.weights:
        v.assign(weights[v.path].value)
    x = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    np.testing.assert_array_equal(bare(x, training=True)[-1], plain(x, training=True)[-1])


def test_the_predictor_is_two_layers(tmp_path):
    predictor = heads.predictor(4, 6)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    weights = {v.path: v.numpy() for v in predictor.weights}
    hidden = x @ weights["predictor1_dense/kernel"]
    hidden = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-5)  # gamma 1, beta 0
    expected = np.maximum(hidden, 0) @ weights["predictor2_dense/kernel"]
    np.testing.assert_allclose(predictor(x, training=True), expected, rtol=1e-4, atol=1e-6)
    predictor.save(tmp_path / "predictor.keras")
    again = keras.saving.load_model(tmp_path / "predictor.keras")
    np.testing.assert_array_equal(again(x), predictor(x))
