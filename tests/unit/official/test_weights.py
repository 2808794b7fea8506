"""The reference's variables in our networks: each used once, or named."""

import re

import numpy as np
import pytest

from helpers import oracle
from helpers import recorded as recordings
from simclrv2_tf import official


def recorded_mapping():
    recorded = oracle.load("network_r18_cifar.npz")
    return recordings.networks(recorded), oracle.numbered(recorded, "weights")


def test_a_missing_an_extra_and_a_misshapen_variable_are_all_named():
    models, mapping = recorded_mapping()
    missing = "resnet/block_group2/residual_block_2/conv2d_fixed_padding_7/conv2d_7/kernel"
    misshapen = "projection_head/nl_0/dense/kernel"
    del mapping[missing]
    mapping["resnet/conv2d_99/kernel"] = np.zeros((1, 1, 1, 1))
    mapping["something_else"] = np.zeros(3)
    mapping[misshapen] = np.zeros((64, 63))
    before = [v.numpy() for model in models for v in model.weights]
    with pytest.raises(ValueError, match="4 problem") as error:
        official.load_weights(mapping, *models)
    text = str(error.value)
    assert "block_group2_block0_conv1/kernel: nothing fills it" in text
    assert "conv2d_99/kernel: the encoder has no such variable" in text
    assert "something_else: not a variable name" in text
    assert f"{misshapen}: shape (64, 63) does not fit projection1_dense/kernel" in text
    for variable, value in zip([v for m in models for v in m.weights], before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_slots_are_passed_over_and_parts_not_asked_for():
    (encoder, _, _), mapping = recorded_mapping()
    mapping["resnet/conv2d_fixed_padding/conv2d/kernel/Momentum"] = np.zeros(1)
    mapping["global_step"] = np.zeros(())
    official.load_weights({f"{k}:0": v for k, v in mapping.items()}, encoder)
    np.testing.assert_array_equal(
        encoder.get_layer("stem_conv").kernel,
        mapping["resnet/conv2d_fixed_padding/conv2d/kernel"],
    )


def test_counters_of_a_second_network_in_a_process():
    models, mapping = recorded_mapping()

    def later(name):
        shift = lambda m: f"{m[1]}_{int(m[2] or 0) + 40}/"  # noqa: E731
        return re.sub(r"(conv2d|batch_normalization)(?:_(\d+))?/(?=\w+$)", shift, name)

    shifted = {later(k) if k.startswith("resnet") else k: v for k, v in mapping.items()}
    assert set(shifted) != set(mapping)
    official.load_weights(shifted, *models)
    got = [v.numpy() for v in models[0].weights]
    official.load_weights(mapping, *models)
    for first, second in zip(got, models[0].weights, strict=True):
        np.testing.assert_array_equal(first, second)
