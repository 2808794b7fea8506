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
