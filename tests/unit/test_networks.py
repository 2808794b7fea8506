"""The encoder, heads and batch norm against the recorded reference, and their edge cases."""

import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import oracle
from simclrv2_tf import heads, official, resnet
from simclrv2_tf.batch_norm import BatchNorm, _moments

NETWORKS = ["network_r18_cifar.npz", "network_r50.npz", "network_r50_sk.npz"]


def build(recorded):
    encoder = resnet.resnet(
        depth=int(recorded["depth"]),
        width_multiplier=float(recorded["width"]),
        sk_ratio=float(recorded["sk_ratio"]),
        se_ratio=float(recorded["se_ratio"]),
        image_size=int(recorded["image_size"]),
    )
    width = encoder.output_shape[-1]
    head = heads.projection_head(
        width, int(recorded["num_proj_layers"]), int(recorded["proj_out_dim"])
    )
    classifier = heads.classifier(width, int(recorded["num_classes"]))
    return encoder, head, classifier


def loaded(recorded):
    models = build(recorded)
    official.load_weights(oracle.numbered(recorded, "weights"), *models)
    return models


def assert_close(got, expected, relative, noise=0.0, name=""):
    error = np.max(np.abs(np.asarray(got) - expected))
    bound = max(relative * np.max(np.abs(expected)), 10 * noise)
    assert error <= bound, f"{name}: off by {error}, allowed {bound}"


@pytest.mark.parametrize("file", NETWORKS)
def test_inference_equals_the_reference(file):
    recorded = oracle.load(file)
    encoder, head, classifier = loaded(recorded)
    endpoints = resnet.features(encoder)(recorded["images_two_views"][..., :3], training=False)
    hiddens = head(endpoints["representation"], training=False)
    selected = hiddens[int(recorded["ft_proj_selector"])]
    for name, value in endpoints.items():
        assert_close(value, recorded["stem_output" if name == "stem" else name], 1e-4, name=name)
    assert_close(hiddens[-1], recorded["projection"], 1e-4, name="projection")
    assert_close(selected, recorded["finetune_head_input"], 1e-4, name="finetune_head_input")
    assert_close(classifier(selected), recorded["logits"], 1e-4, name="logits")


def paper_nt_xent(z1, z2, temperature):
    """The reference's value (both directions, mean over N), in plain TensorFlow."""
    z = tf.math.l2_normalize(tf.concat([z1, z2], 0), -1)
    n = z1.shape[0]
    logits = tf.matmul(z, z, transpose_b=True) / temperature
    logits = tf.linalg.set_diag(logits, tf.fill([2 * n], -1e9))
    positives = tf.concat([tf.range(n, 2 * n), tf.range(n)], 0)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(positives, logits)
    return tf.reduce_sum(losses) / n


@pytest.mark.parametrize("file", NETWORKS)
def test_training_pass_equals_the_reference(file):
    recorded = oracle.load(file)
    encoder, head, classifier = loaded(recorded)
    images = recorded["images_two_views"]
    views = tf.concat([images[..., :3], images[..., 3:]], 0)
    labels = tf.concat([tf.range(3), tf.range(3)], 0)
    with tf.GradientTape() as tape:
        hiddens = head(encoder(views, training=True), training=True)
        logits = classifier(tf.stop_gradient(hiddens[int(recorded["ft_proj_selector"])]))
        contrastive = paper_nt_xent(*tf.split(hiddens[-1], 2), 0.1)
        supervised = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        loss = contrastive + supervised
    noise = lambda key: float(recorded[f"noise/{key}"])  # noqa: E731
    outputs = {
        "train_projection": hiddens[-1],
        "train_logits": logits,
        "contrastive_loss": contrastive,
        "supervised_loss": supervised,
    }
    for name, value in outputs.items():
        assert_close(value, recorded[name], 1e-3, noise(name), name)

    # The recorded gradients and statistics travel through load_weights into models of the same
    # shape, so that the comparison needs no second mapping of names.
    models = (encoder, head, classifier)
    trainable = [v for model in models for v in model.trainable_variables]
    gradients = dict(zip([v.path for v in trainable], tape.gradient(loss, trainable), strict=True))
    statistics = {v.path: v.numpy() for model in models for v in model.non_trainable_variables}
    kinds = {"grads": gradients, "after_step": statistics}
    noises = {}
    for kind in kinds:
        for key in recorded:
            if key.startswith(f"noise/{kind}/"):
                noises[key.split("/", 3)[3]] = float(recorded[key])
    names = {**oracle.numbered(recorded, "grads"), **oracle.numbered(recorded, "after_step")}
    assert set(names) == set(oracle.numbered(recorded, "weights"))
    official.load_weights(names, *models)
    expected = {v.path: v.numpy() for model in models for v in model.weights}
    official.load_weights({k: np.full(v.shape, noises[k]) for k, v in names.items()}, *models)
    allowed = {v.path: float(np.max(v.numpy())) for model in models for v in model.weights}
    assert set(expected) == set(gradients) | set(statistics)
    for got in kinds.values():
        for path, value in got.items():
            assert_close(value, expected[path], 1e-3, allowed[path], path)


def count(variables):
    return sum(int(np.prod(v.shape)) for v in variables)


@pytest.mark.parametrize("index", range(17))
def test_parameter_counts_are_the_papers(index):
    path = oracle.ORACLE / "parameter_counts.json"
    if not path.exists():
        pytest.skip("the reference's recordings are not beside the project")
    row = json.loads(path.read_text())[index]
    # Up to 795 million numbers, whose values do not matter here.
    with keras.StatelessScope(initialize_variables=False):
        encoder = resnet.resnet(row["depth"], row["width"], row["sk"])
        width = encoder.output_shape[-1]
        head = heads.projection_head(width)
        classifier = heads.classifier(width, 1000)
    assert count(encoder.trainable_variables) == row["base_trainable"]
    assert count(encoder.variables) == row["base_all"]
    assert count(head.trainable_variables) == row["proj_trainable"]
    assert count(head.variables) == row["proj_all"]
    assert count(classifier.variables) == row["sup"]


def loop_batch_norm(x, gamma, beta, epsilon):
    """Over all but the last axis, in float64, one channel at a time."""
    out, means, variances = np.empty(x.shape), [], []
    for c in range(x.shape[-1]):
        column = x[..., c].astype(np.float64)
        means.append(column.mean())
        variances.append(((column - column.mean()) ** 2).mean())
        out[..., c] = (column - means[-1]) / np.sqrt(variances[-1] + epsilon) * gamma[c] + beta[c]
    return out, np.array(means), np.array(variances)


@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 3, 3), (1, 1, 2, 3), (1, 3)])
@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_batch_norm_is_the_formula(shape, mean):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=shape) + mean).astype(np.float32)
    layer = BatchNorm(momentum=0.75)
    layer.build(shape)
    gamma, beta = rng.normal(size=(2, 3)).astype(np.float32)
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    expected, means, variances = loop_batch_norm(x, gamma, beta, 1e-5)
    # One unit in the last place of a mean of 1000 is 6e-5, which the division scales.
    tolerance = 2e-6 if mean == 0 else 2e-2 if shape[0] == 1 else 2e-3
    np.testing.assert_allclose(layer(x, training=True), expected, atol=tolerance)
    np.testing.assert_allclose(layer.moving_mean, 0.25 * means, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        layer.moving_variance, 0.75 + 0.25 * variances, rtol=1e-5, atol=1e-5 + 1e-6 * mean
    )
    moving = (np.asarray(layer.moving_mean), np.asarray(layer.moving_variance))
    inference = (x - moving[0]) / np.sqrt(moving[1] + 1e-5) * gamma + beta
    np.testing.assert_allclose(layer(x), inference, rtol=1e-4, atol=1e-4)
    assert np.array_equal(moving[0], layer.moving_mean), "inference must not move the statistics"


def test_fused_batch_norm_and_its_gradient_equal_the_unfused():
    x = tf.constant(np.random.default_rng(0).normal(size=(4, 3, 3, 2)).astype(np.float32))
    layer = BatchNorm()
    layer.build(x.shape)
    gradients = []
    for inputs in (x, tf.cast(x, tf.float64)):  # the kernel takes no float64
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = (
                layer(inputs, training=True)
                if inputs is x
                else tf.cast(layer._normalize(inputs, *_moments(inputs), moving=False), tf.float32)
            )
            loss = tf.reduce_sum(tf.sin(outputs) * tf.stop_gradient(tf.cast(x, outputs.dtype)))
        gradients.append(tape.gradient(loss, [inputs, layer.gamma.value, layer.beta.value]))
    for fused, plain in zip(*gradients, strict=True):
        np.testing.assert_allclose(fused, plain, atol=2e-5)


def test_batch_norm_in_bfloat16_keeps_float32_statistics():
    x = (np.random.default_rng(0).normal(size=(64, 8)) * 3 + 1).astype(np.float32)
    layer = BatchNorm(dtype="mixed_bfloat16", momentum=0.0)
    outputs = layer(x, training=True)
    assert outputs.dtype == tf.bfloat16
    rounded = tf.cast(tf.cast(x, tf.bfloat16), tf.float32).numpy()
    assert layer.moving_mean.dtype == "float32"
    np.testing.assert_allclose(layer.moving_mean, rounded.mean(0), atol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, rounded.var(0), rtol=1e-5)


def test_frozen_batch_norm_uses_moving_statistics_in_training():
    x = np.ones((4, 2), np.float32) * 5
    layer = BatchNorm()
    layer(x)
    layer.trainable = False
    np.testing.assert_allclose(layer(x, training=True), 5 / np.sqrt(1 + 1e-5), rtol=1e-6)
    np.testing.assert_array_equal(layer.moving_mean, 0)


def test_se_and_ratios_and_stems():
    images = np.random.default_rng(0).random((2, 40, 56, 3), dtype=np.float32)
    for options in (
        dict(depth=18, width_multiplier=0.125, se_ratio=0.25),
        dict(depth=18, width_multiplier=0.125, sk_ratio=0.0625),  # ResNet-D, no selective kernel
        dict(depth=50, width_multiplier=1 / 16, se_ratio=0.25, sk_ratio=0.0625, stem="cifar"),
    ):
        encoder = resnet.resnet(**options)
        outputs = resnet.features(encoder)(images)
        stride = 1 if options.get("stem") == "cifar" else 4
        assert outputs["stem"].shape[1:3] == (40 // stride, 56 // stride)
        assert outputs["representation"].shape == (2, encoder.output_shape[-1])
        np.testing.assert_allclose(
            outputs["representation"],
            np.mean(outputs["block_group4"], (1, 2)),
            rtol=1e-5,
            atol=1e-7,
        )


def test_squeeze_excitation_hidden_width_counts_base_filters():
    encoder = resnet.resnet(50, 0.25, se_ratio=0.25)
    reduce = encoder.get_layer("block_group2_block0_se_reduce")
    expand = encoder.get_layer("block_group2_block0_se_expand")
    assert reduce.kernel.shape == (1, 1, 128, 8) and reduce.bias.shape == (8,)
    assert expand.kernel.shape == (1, 1, 8, 128)


def test_last_gamma_of_each_block_starts_at_zero_and_no_other():
    for depth, last in ((18, "bn2"), (50, "bn3")):
        encoder = resnet.resnet(depth, 1 / 16)
        for variable in encoder.weights:
            if variable.path.endswith("/gamma"):
                zero = re.search(rf"_block\d+_{last}/gamma", variable.path) is not None
                np.testing.assert_array_equal(variable, 0.0 if zero else 1.0, variable.path)


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


def test_other_blocks_are_stages_of_the_same_network():
    encoder = resnet.resnet(10, 1 / 16, image_size=8, blocks=(1, 2))
    assert resnet.endpoints(encoder) == ("stem", "block_group1", "block_group2", "representation")
    outputs = resnet.features(encoder)(np.zeros((1, 8, 8, 3), np.float32))
    assert tuple(outputs) == resnet.endpoints(encoder)
    assert encoder.output_shape == (None, 8)  # that of the second stage
    assert encoder.get_layer("block_group2_block1_conv1") is not None
    resnet.freeze(encoder, 1)
    assert {v.path[:12] for v in encoder.trainable_variables} == {"block_group2"}
    whole, same = (resnet.resnet(10, 1 / 16, blocks=b) for b in (None, (1, 1, 1, 1)))
    assert [v.path for v in whole.weights] == [v.path for v in same.weights]
    assert resnet.endpoints(whole) == resnet.ENDPOINTS


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


# --- official.load_weights ------------------------------------------------------------------------


def recorded_mapping():
    recorded = oracle.load(NETWORKS[0])
    return build(recorded), oracle.numbered(recorded, "weights")


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


@pytest.mark.parametrize("name", ["r18_cifar", "r50_sk"])
def test_tf1_names(name):
    expected = oracle.load(f"tf1_checkpoint/{name}/expected.npz")
    reader = tf.train.load_checkpoint(str(oracle.ORACLE / "tf1_checkpoint" / name))
    mapping = {key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map()}
    models = build({**expected, "se_ratio": 0.0, "num_proj_layers": 3})
    official.load_weights(mapping, *models)
    encoder, head, classifier = models
    representation = encoder(expected["images"])
    selected = head(representation)[int(expected["ft_proj_selector"])]
    assert_close(representation, expected["representation"], 1e-4)
    assert_close(selected, expected["finetune_head_input"], 1e-4)
    assert_close(classifier(selected), expected["logits"], 1e-4)
