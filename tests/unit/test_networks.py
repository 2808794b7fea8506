"""The networks against the recorded reference, and as their options describe them."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import oracle, small
from helpers import recorded as recordings
from helpers.recorded import assert_close
from simclrv2_tf import heads, options, resnet
from simclrv2_tf.network_options import HeadOptions, NetworkOptions, NetworksOptions
from simclrv2_tf.networks import build_networks

NETWORKS = ["network_r18_cifar.npz", "network_r50.npz", "network_r50_sk.npz"]


@pytest.mark.parametrize("file", NETWORKS)
def test_inference_equals_the_reference(file):
    recorded = oracle.load(file)
    encoder, head, classifier = recordings.loaded(recorded)
    endpoints = resnet.features(encoder)(recorded["images_two_views"][..., :3], training=False)
    hiddens = head(endpoints["representation"], training=False)
    selected = hiddens[int(recorded["ft_proj_selector"])]
    for name, value in endpoints.items():
        assert_close(value, recorded["stem_output" if name == "stem" else name], 1e-4, name=name)
    assert_close(hiddens[-1], recorded["projection"], 1e-4, name="projection")
    assert_close(selected, recorded["finetune_head_input"], 1e-4, name="finetune_head_input")
    assert_close(classifier(selected), recorded["logits"], 1e-4, name="logits")


def test_bfloat16_networks_answer_in_float32(monkeypatch):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        encoder = resnet.resnet(50, 1 / 16, 0.0625, image_size=16)
        head = heads.projection_head(encoder.output_shape[-1])
    finally:
        keras.config.set_dtype_policy("float32")
    outputs = resnet.features(encoder)(np.random.default_rng(0).random((2, 16, 16, 3)))
    assert outputs["block_group1"].dtype == tf.bfloat16
    assert outputs["representation"].dtype == tf.float32
    assert head(outputs["representation"])[-1].dtype == tf.float32
    assert {v.dtype for v in (*encoder.weights, *head.weights)} == {"float32"}


SMALL = NetworksOptions(resnet_depth=10, width_multiplier=1 / 16, proj_out_dim=4)


@pytest.mark.parametrize(
    ("changes", "widths"),
    [
        ({}, [8, 8, 8, 4]),
        ({"proj_hidden_dim": 6, "num_proj_layers": 2, "ft_proj_selector": 1}, [8, 6, 4]),
        ({"proj_head_mode": "linear", "ft_proj_selector": -1}, [8, 4]),
        ({"proj_head_mode": "none"}, [8, 8]),
    ],
)
def test_networks_are_as_described(changes, widths):
    described = dataclasses.replace(SMALL, **changes)
    networks = build_networks(described, 3, image_size=8, seed=1, resnet=small.resnet)
    assert [hidden.shape[-1] for hidden in networks.head.outputs] == widths
    assert described.num_head_layers == len(widths) - 1 - (described.proj_head_mode == "none")
    assert networks.classifier.input_shape == (None, widths[described.ft_proj_selector])
    assert networks.models.keys() == {"encoder", "head", "classifier"}
    images = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    hidden = networks.head(networks.encoder(images))[described.ft_proj_selector]
    logits = networks.image_classifier()(images)
    np.testing.assert_allclose(logits, networks.classifier(hidden), rtol=1e-4, atol=1e-7)
    assert (networks.head_part is None) == (described.ft_proj_selector == 0)


def test_initial_weights_are_a_function_of_the_seed():
    first, again, other = (
        build_networks(SMALL, 2, image_size=8, seed=seed, resnet=small.resnet).classifier.weights[0]
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.any(first.numpy() != other.numpy())
    zero = build_networks(SMALL, 2, image_size=8, seed=1, zero_init=True, resnet=small.resnet)
    np.testing.assert_array_equal(zero.classifier.get_weights()[0], 0)
    assert build_networks(SMALL, 0, image_size=8, seed=1).classifier is None


def test_another_network_may_take_the_resnets_place():
    given = {}

    def make(**arguments):
        given.update(arguments)
        return keras.Sequential([keras.Input((None, None, 3)), keras.layers.GlobalMaxPooling2D()])

    described = dataclasses.replace(SMALL, se_ratio=0.5, stem="cifar", global_bn=False)
    networks = build_networks(described, 2, image_size=8, seed=1, resnet=make)
    assert networks.head.input_shape == (None, 3)
    expected = {"depth": 10, "width_multiplier": 1 / 16, "sk_ratio": 0.0, "se_ratio": 0.5}
    expected |= {"image_size": 8, "stem": "cifar", "channels": 3}
    assert given == expected | {"global_batch_norm": False, "batch_norm_decay": 0.9}


def test_options_are_checked_and_describe_the_default_networks():
    with pytest.raises(options.ConfigError, match="`resnet_depth` must be one of 10, 18"):
        NetworksOptions(resnet_depth=11)
    assert options.of(NetworkOptions)["resnet_depth"].choices == resnet.DEPTHS
    assert options.of(NetworksOptions) == options.of(NetworkOptions) | options.of(HeadOptions)


def test_a_predictor_follows_the_head_and_is_an_endpoint_of_its_own():
    def width(hidden_dim, out_dim):
        return hidden_dim + out_dim

    make = dict(image_size=8, seed=1, resnet=small.resnet)
    networks = build_networks(SMALL, 3, predictor_width=width, **make)
    assert networks.predictor.get_layer("predictor1_dense").units == 8 + 4
    without = build_networks(SMALL, 3, **make)
    for name, model in without.models.items():  # later stages load what they have
        for v, w in zip(model.weights, networks.models[name].weights, strict=True):
            np.testing.assert_array_equal(v, w, err_msg=v.path)
    images = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    expected = networks.predictor(networks.head(networks.encoder(images))[-1])
    found = networks.endpoints()(images)["prediction"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    for model in networks.leading_to("prediction"):
        images = model(images)
    np.testing.assert_allclose(images, expected, rtol=1e-4, atol=1e-7)
