"""Loss spikes, and what is said where training diverges."""

import itertools
from types import SimpleNamespace

import pytest

from simclrv2_tf.optimizers import WarmupCosine
from simclrv2_tf.training import divergence
from simclrv2_tf.training.divergence import LossSpikes, NonFiniteError, likely_causes

SCHEDULE = WarmupCosine(peak=4.8, warmup_steps=10, total_steps=100)


def spikes(losses, per_epoch, per_call=1, earlier=None):
    """Runs the callback over steps of these losses; the epoch's mean is all that it sees."""
    callback = LossSpikes(earlier, lambda: "runs/a/checkpoints/ckpt-3", first_steps=4)
    callback.set_model(SimpleNamespace(optimizer=SimpleNamespace()))
    for epoch, begin in enumerate(range(0, len(losses), per_epoch)):
        own = losses[begin : begin + per_epoch]
        callback.on_epoch_begin(epoch)
        ends = [*range(per_call, len(own), per_call), len(own)]
        for end in ends:
            step = begin + end
            callback.model.optimizer.iterations = SimpleNamespace(numpy=lambda step=step: step)
            logs = {"loss": sum(own[:end]) / end, "learning_rate": 0.5}
            callback.on_train_batch_end(end - 1, logs)


@pytest.fixture
def warnings(monkeypatch):
    found = []
    monkeypatch.setattr(
        divergence.logging, "warning", lambda text, *args: found.append(text % args)
    )
    return found


def test_a_step_far_above_the_first_is_a_spike(warnings):
    spikes([5, 5, 5, 5, 4, 3, 2, 10.5, 30, 2], per_epoch=6)
    (text,) = warnings  # only of the first
    assert "spike at step 8: 10.5, compared with 5 in the first steps;" in text
    assert "learning rate 0.5" in text and "ckpt-3" in text


@pytest.mark.parametrize(
    "losses",
    [
        [5, 5, 5, 5, 9.9, 2, 0.1, 9.9],  # below twice the first
        [90, 5, 5, 5, 4, 4, 50, 3],  # one of the first steps
        [0.0] * 8,
    ],
)
def test_losses_that_fall_give_no_warning(losses, warnings):
    spikes(losses, per_epoch=3)
    assert not warnings


def test_several_steps_in_a_call_count_as_their_mean(warnings):
    losses = [5] * 12 + [4, 4, 4, 15]
    spikes(losses, per_epoch=8, per_call=3)
    assert not warnings  # calls of three, three and two steps: (4 + 15) / 2 is the last
    spikes([*losses[:-1], 38], per_epoch=8, per_call=3)
    assert "step 16: 21, compared" in warnings[0]


def test_a_resumed_run_compares_with_its_first_epoch(warnings):
    spikes([0.1, 0.1, 9.9, 0.1], per_epoch=4, earlier=5.0)
    assert not warnings
    spikes([0.1, 10.1], per_epoch=4, earlier=5.0)
    assert "step 2: 10.1, compared with 5 in the first steps;" in warnings[0]


def test_likely_causes_are_those_of_the_run():
    plain = dict(first=False, rate=4.0, schedule=SCHEDULE, precision="float32")
    (cause,) = likely_causes(**plain)
    assert "4 of 4.8 at its peak (--learning_rate, --warmup_epochs)" in cause
    causes = {
        "first": (True, "images or starting weights"),
        "precision": ("mixed_bfloat16", "--precision=float32"),
        "temperature": (0.01, "a low temperature, 0.01"),
    }
    for count in range(1, 4):
        for chosen in itertools.combinations(causes, count):
            found = likely_causes(**plain | {name: causes[name][0] for name in chosen})
            assert len(found) == 1 + count
            for name, (_, words) in causes.items():
                assert any(words in text for text in found) == (name in chosen)
    assert likely_causes(**plain, temperature=0.1) == [cause]


def test_the_message_names_the_last_checkpoint():
    plain = NonFiniteError("The loss became nan at step 3.")
    assert "No checkpoint of this state was written. Lower the learning rate" in str(plain)
    full = NonFiniteError(plain.what, ["one", "two"], "runs/a/checkpoints/ckpt-2")
    assert str(full) == (
        "The loss became nan at step 3. No checkpoint of this state was written. The last finite "
        "checkpoint is runs/a/checkpoints/ckpt-2. Likely causes: one; two. Change these settings "
        "in another --model_dir, optionally from --checkpoint=runs/a/checkpoints/ckpt-2."
    )
    assert "The last finite" not in str(NonFiniteError(plain.what, ["one"]))
