"""Checkpoints of a run: resuming is exact, and damaged or other ones are refused."""

import numpy as np
import pytest
import tensorflow as tf

from helpers.stages import small_encoder, tiny, weights
from simclrv2_tf import weights as checkpoints


def test_checkpoints_keep_the_newest_and_refuse_another_network(tmp_path):
    encoder, head, _ = tiny()
    store = checkpoints.Checkpoints(str(tmp_path), checkpoints.named(encoder.weights), keep=2)
    for step in (1, 2, 3):
        store.save(step)
    assert sorted(p.name for p in tmp_path.glob("*.index")) == ["ckpt-2.index", "ckpt-3.index"]
    both = checkpoints.named([*encoder.weights, *head.weights])
    with pytest.raises(checkpoints.CheckpointError, match="projection1"):
        checkpoints.Checkpoints(str(tmp_path), both, keep=2).restore()
    wider = small_encoder(1 / 8)
    before = weights(wider)
    with pytest.raises(checkpoints.CheckpointError, match="stem"):
        checkpoints.load(str(tmp_path), [wider])
    assert all(np.array_equal(before[p], v) for p, v in weights(wider).items())
    with pytest.raises(checkpoints.CheckpointError, match="none"):
        checkpoints.load(str(tmp_path / "nothing"), [encoder])


def test_checkpoint_with_a_nan_is_not_written(tmp_path):
    encoder, _, _ = tiny()
    store = checkpoints.Checkpoints(str(tmp_path), checkpoints.named(encoder.weights), keep=2)
    encoder.weights[0].assign(np.full(encoder.weights[0].shape, np.nan))
    with pytest.raises(FloatingPointError, match="stem_conv/kernel"):
        store.save(1)
    assert not list(tmp_path.glob("*.index"))


def test_damaged_checkpoint_is_an_error_of_ours(tmp_path):
    encoder, _, _ = tiny()
    state = checkpoints.named(encoder.weights)
    checkpoints.Checkpoints(str(tmp_path), state, keep=2).save(1)
    first = checkpoints.fingerprint(str(tmp_path))
    encoder.weights[0].assign(encoder.weights[0] + 1)
    checkpoints.Checkpoints(str(tmp_path), state, keep=2).save(1)
    assert checkpoints.fingerprint(str(tmp_path)) != first
    (tmp_path / "ckpt-1.index").write_bytes(b"short")
    with pytest.raises(checkpoints.CheckpointError, match="cannot be read"):
        checkpoints.Checkpoints(str(tmp_path), state, keep=2).restore()
    with pytest.raises(checkpoints.CheckpointError, match="cannot be read"):
        checkpoints.load(str(tmp_path), [encoder])


def test_once_a_stage_has_ended_the_newest_is_kept(tmp_path):
    encoder = small_encoder()
    store = checkpoints.Checkpoints(str(tmp_path), checkpoints.named(encoder.weights), keep=3)
    store.keep_newest()  # of none
    for step in (1, 10, 11):
        encoder.weights[0].assign_add(tf.ones_like(encoder.weights[0]))
        store.save(step)
    expected = [v.numpy() for v in encoder.weights]
    (tmp_path / "ckpt-10.note").write_text("of a checkpoint that goes")
    (tmp_path / "ckpt-1-of-mine.txt").write_text("of another")
    store.keep_newest()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "checkpoint", "ckpt-11.index", "ckpt-11.data-00000-of-00001", "ckpt-1-of-mine.txt",
    }  # fmt: skip
    for variable in encoder.weights:
        variable.assign(tf.zeros_like(variable))
    again = checkpoints.Checkpoints(str(tmp_path), checkpoints.named(encoder.weights), keep=3)
    assert again.restore()
    for variable, value in zip(encoder.weights, expected, strict=True):
        np.testing.assert_array_equal(variable, value)
    other = checkpoints.Checkpoints(
        str(tmp_path), checkpoints.named(encoder.weights), keep=3, writes=False
    )
    other.keep_newest()
    assert {path.name for path in tmp_path.iterdir()} == names
