"""The ResNets: stems, ratios, initial values and bad arguments."""

import re

import numpy as np
import pytest

from simclrv2_tf import resnet


def test_se_and_ratios_and_stems():
    images = np.random.default_rng(0).random((2, 40, 56, 3), dtype=np.float32)
    few = dict(blocks=(2, 1, 1, 1))  # all four stages, and a block without a projection
    for options in (
        dict(depth=18, width_multiplier=0.125, se_ratio=0.25),
        dict(depth=18, width_multiplier=0.125, sk_ratio=0.0625),  # ResNet-D, no selective kernel
        dict(depth=50, width_multiplier=1 / 16, se_ratio=0.25, sk_ratio=0.0625, stem="cifar"),
        dict(depth=18, width_multiplier=0.125, stem="stride2"),
    ):
        encoder = resnet.resnet(**options, **few)
        outputs = resnet.features(encoder)(images)
        stride = {"cifar": 1, "stride2": 2}.get(options.get("stem"), 4)
        assert outputs["stem"].shape[1:3] == (40 // stride, 56 // stride)
        assert outputs["representation"].shape == (2, encoder.output_shape[-1])
        np.testing.assert_allclose(
            outputs["representation"],
            np.mean(outputs["block_group4"], (1, 2)),
            rtol=1e-5,
            atol=1e-7,
        )


def test_the_stem_of_stride_2_is_every_second_pixel_of_the_one_of_stride_1():
    images = np.random.default_rng(0).random((2, 9, 12, 3), dtype=np.float32)
    dense, strided = (
        resnet.resnet(10, 1 / 16, stem=stem, blocks=(1,)) for stem in ("cifar", "stride2")
    )
    assert len(dense.weights) == len(strided.weights)
    strided.set_weights(dense.get_weights())
    # Zeros are added on both sides, as for stride 1.
    expected = resnet.features(dense)(images)["stem"][:, ::2, ::2]
    np.testing.assert_allclose(resnet.features(strided)(images)["stem"], expected, atol=1e-6)
    # Shapes are equal: only names keep weights from being loaded into the other stem.
    assert {v.path for v in dense.weights} != {v.path for v in strided.weights}


def test_squeeze_excitation_hidden_width_counts_base_filters():
    encoder = resnet.resnet(50, 0.25, se_ratio=0.25, blocks=(1, 1))
    reduce = encoder.get_layer("block_group2_block0_se_reduce")
    expand = encoder.get_layer("block_group2_block0_se_expand")
    assert reduce.kernel.shape == (1, 1, 128, 8) and reduce.bias.shape == (8,)
    assert expand.kernel.shape == (1, 1, 8, 128)


def test_last_gamma_of_each_block_starts_at_zero_and_no_other():
    for depth, last in ((18, "bn2"), (50, "bn3")):
        encoder = resnet.resnet(depth, 1 / 16, blocks=(2, 1, 1, 1))
        for variable in encoder.weights:
            if variable.path.endswith("/gamma"):
                zero = re.search(rf"_block\d+_{last}/gamma", variable.path) is not None
                np.testing.assert_array_equal(variable, 0.0 if zero else 1.0, variable.path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(depth=51), "depth=51"),
        (dict(width_multiplier=0), "width_multiplier=0"),
        (dict(width_multiplier=float("nan")), "width_multiplier=nan"),
        (dict(sk_ratio=-1), "sk_ratio=-1"),
        (dict(stem="other"), "stem='other'"),
        (dict(blocks=()), r"blocks=\(\)"),
        (dict(blocks=(1, 0)), r"blocks=\(1, 0\)"),
        (dict(blocks=(1,) * 5), "blocks="),
    ],
)
def test_bad_network_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        resnet.resnet(**arguments)


def test_other_blocks_are_stages_of_the_same_network():
    encoder = resnet.resnet(10, 1 / 16, image_size=8, blocks=(1, 2))
    assert resnet.endpoints(encoder) == ("stem", "block_group1", "block_group2", "representation")
    outputs = resnet.features(encoder)(np.zeros((1, 8, 8, 3), np.float32))
    assert tuple(outputs) == resnet.endpoints(encoder)
    assert encoder.output_shape == (None, 8)  # of the second stage
    assert encoder.get_layer("block_group2_block1_conv1") is not None
    resnet.freeze(encoder, 1)
    assert {v.path[:12] for v in encoder.trainable_variables} == {"block_group2"}
    whole, same = (resnet.resnet(10, 1 / 16, blocks=b) for b in (None, (1, 1, 1, 1)))
    assert [v.path for v in whole.weights] == [v.path for v in same.weights]
    assert resnet.endpoints(whole) == resnet.ENDPOINTS
