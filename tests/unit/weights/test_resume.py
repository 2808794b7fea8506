"""Checkpoints of a run: resuming is exact, and damaged or other ones are refused."""

import keras
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


def saved(folder, steps, keep=5):
    """Saves an encoder at each step; returns the encoder, its store, and the values by step."""
    encoder = small_encoder()
    store = checkpoints.Checkpoints(str(folder), checkpoints.named(encoder.weights), keep)
    values = {}
    for step in steps:
        for variable in encoder.weights:
            variable.assign_add(tf.ones_like(variable))
        store.save(step)
        values[step] = [v.numpy() for v in encoder.weights]
    for variable in encoder.weights:
        variable.assign(tf.zeros_like(variable))
    return encoder, store, values


def holds(encoder, values):
    return all(np.array_equal(v, w) for v, w in zip(encoder.weights, values, strict=True))


@pytest.mark.parametrize("name", ["run [1]", "a*b", "what?", "[ab]", "back\\slash", "{x}", "näme"])
def test_a_folder_may_have_any_name(tmp_path, name):
    folder = tmp_path / name / "checkpoints"
    encoder, store, values = saved(folder, (1, 2, 10), keep=2)
    assert sorted(p.name for p in folder.glob("*.index")) == ["ckpt-10.index", "ckpt-2.index"]
    assert store.restore() and holds(encoder, values[10])
    other = small_encoder()
    checkpoints.load(str(tmp_path / name), [other])
    assert holds(other, values[10])
    assert checkpoints.fits(str(folder / "ckpt-2"), [other])
    # A pattern that fits other folders must not lead to them.
    assert checkpoints.latest(str(tmp_path / "?????")) is None


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


DAMAGE = {
    "flipped data": lambda folder: flip(folder / "ckpt-3.data-00000-of-00001"),
    "flipped index": lambda folder: flip(folder / "ckpt-3.index"),
    "cut data": lambda folder: (folder / "ckpt-3.data-00000-of-00001").write_bytes(b"short"),
    "cut index": lambda folder: (folder / "ckpt-3.index").write_bytes(b"short"),
    "empty index": lambda folder: (folder / "ckpt-3.index").write_bytes(b""),
    "no data": lambda folder: (folder / "ckpt-3.data-00000-of-00001").unlink(),
    "no index": lambda folder: (folder / "ckpt-3.index").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_newest_whole_checkpoint_is_restored(tmp_path, damage, caplog):
    encoder, store, values = saved(tmp_path, (1, 2, 3))
    DAMAGE[damage](tmp_path)
    assert store.restore() and holds(encoder, values[2])
    assert ("ckpt-3" in caplog.text) == (damage != "no index")
    store = checkpoints.Checkpoints(str(tmp_path), checkpoints.named(encoder.weights), keep=1)
    assert store.restore()
    for variable in encoder.weights:
        variable.assign_add(tf.ones_like(variable))
    store.save(4)
    assert [p.name for p in tmp_path.glob("*.index")] == ["ckpt-4.index"]
    expected = [v.numpy() for v in encoder.weights]
    assert store.restore() and holds(encoder, expected)


def test_a_damaged_checkpoint_is_kept_aside(tmp_path):
    encoder, _, _ = saved(tmp_path, (1, 3))
    flip(tmp_path / "ckpt-3.index")
    damaged = (tmp_path / "ckpt-3.index").read_bytes()
    store = checkpoints.Checkpoints(str(tmp_path), checkpoints.named(encoder.weights), keep=1)
    store.restore()
    store.save(2)
    assert (tmp_path / "ckpt-3.index.damaged").read_bytes() == damaged
    assert [p.name for p in tmp_path.glob("*.index")] == ["ckpt-2.index"]


def test_a_step_that_was_damaged_is_saved_again(tmp_path):
    encoder, _, values = saved(tmp_path, (1, 3))
    flip(tmp_path / "ckpt-3.data-00000-of-00001")
    store = checkpoints.Checkpoints(str(tmp_path), checkpoints.named(encoder.weights), keep=1)
    assert store.restore() and holds(encoder, values[1])
    encoder.weights[0].assign_add(tf.ones_like(encoder.weights[0]))
    expected = [v.numpy() for v in encoder.weights]
    store.save(3)
    assert [p.name for p in tmp_path.glob("*.index")] == ["ckpt-3.index"]
    assert store.restore() and holds(encoder, expected)


def test_checkpoints_that_are_all_damaged_are_an_error_of_ours(tmp_path):
    encoder, store, _ = saved(tmp_path, (1, 2))
    for path in tmp_path.glob("*.index"):
        path.write_bytes(b"short")
    with pytest.raises(checkpoints.CheckpointError, match="ckpt-2 cannot be read"):
        store.restore()
    with pytest.raises(checkpoints.CheckpointError, match="cannot be read"):
        checkpoints.load(str(tmp_path), [encoder])
    assert all(not np.any(v) for v in encoder.weights), "nothing may be restored in part"


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b'model_checkpoint_path: "ckpt-1"\n'])
def test_the_state_file_is_not_needed(tmp_path, content):
    encoder, store, values = saved(tmp_path, (1, 2))
    (tmp_path / "checkpoint").unlink()
    if content is not None:
        (tmp_path / "checkpoint").write_bytes(content)
    assert store.restore() and holds(encoder, values[2])
    assert checkpoints.latest(str(tmp_path)) == str(tmp_path / "ckpt-2")


def test_tensorflow_finds_the_newest(tmp_path):
    saved(tmp_path, (1, 2, 10))
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "ckpt-10")
    state = tf.train.get_checkpoint_state(str(tmp_path))
    assert [p.rpartition("/")[2] for p in state.all_model_checkpoint_paths] == [
        "ckpt-1", "ckpt-2", "ckpt-10",
    ]  # fmt: skip


def test_other_weights_have_another_fingerprint(tmp_path):
    _, store, _ = saved(tmp_path, (1,))
    first = checkpoints.fingerprint(str(tmp_path))
    store.save(1)  # of zeros
    assert checkpoints.fingerprint(str(tmp_path)) != first


def test_lost_checkpoints_are_not_a_new_run(tmp_path):
    _, store, _ = saved(tmp_path, (1, 2))
    for path in tmp_path.glob("ckpt-*"):
        path.unlink()
    with pytest.raises(checkpoints.CheckpointError, match="ckpt-2 and all others are missing"):
        store.restore()


def test_what_a_kill_leaves_is_removed(tmp_path):
    _, store, _ = saved(tmp_path, (1,))
    (tmp_path / "ckpt-2_temp").mkdir()
    (tmp_path / "ckpt-2_temp" / "part-00000-of-00001.index").write_bytes(b"x")
    (tmp_path / "ckpt-2.data-00000-of-00001").write_bytes(b"x")
    (tmp_path / "mine.data-00000-of-00001").write_bytes(b"x")
    store.save(3)
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {
        "checkpoint", "mine.data-00000-of-00001",
        *(f"ckpt-{n}.{end}" for n in (1, 3) for end in ("index", "data-00000-of-00001")),
    }  # fmt: skip


def test_progress_is_restored_where_the_checkpoint_has_it(tmp_path):
    encoder = small_encoder()
    seconds = keras.Variable(3.0, name="seconds")
    named, progress = checkpoints.named(encoder.weights), {"progress/seconds": seconds}
    without = checkpoints.Checkpoints(str(tmp_path), named, 2)
    store = checkpoints.Checkpoints(str(tmp_path), named, 2, progress=progress)
    without.save(1)
    assert store.restore() and float(seconds) == 3
    store.save(2)
    seconds.assign(0.0)
    assert store.restore() and float(seconds) == 3
    assert without.restore()


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
    (tmp_path / "mine-3.index").write_text("of another")
    store.keep_newest()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "checkpoint", "ckpt-11.index", "ckpt-11.data-00000-of-00001", "ckpt-1-of-mine.txt",
        "mine-3.index",
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
