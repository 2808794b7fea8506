"""Distillation: the loss against loops from the paper, and the stage that trains a student."""

import json
import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclrv2_tf import heads, loop, objectives, optimizers, resnet, stages
from simclrv2_tf import weights as checkpoints
from simclrv2_tf.batch_norm import BatchNorm
from simclrv2_tf.export import export

pytestmark = pytest.mark.usefixtures("short_networks")

# --- The loss -------------------------------------------------------------------------------------


def probabilities(logits, temperature):
    """P(y | x; t) of arXiv 2006.10029, equation 2, for one image: probabilities and their logs."""
    scaled = [float(v) / temperature for v in logits]
    largest = max(scaled)
    log_total = largest + np.log(sum(np.exp(v - largest) for v in scaled))
    logs = [v - log_total for v in scaled]
    return [np.exp(v) for v in logs], logs


def by_loops(student, teacher, temperature):
    """Equation 2 with its gradient for the student's logits, in float64."""
    student, teacher = np.asarray(student, np.float64), np.asarray(teacher, np.float64)
    loss, gradient = 0.0, np.zeros_like(student)
    for i in range(len(student)):
        target, _ = probabilities(teacher[i], temperature)
        predicted, log_predicted = probabilities(student[i], temperature)
        for y in range(student.shape[1]):
            loss -= target[y] * log_predicted[y] / len(student)
            # d log P_S(y) / d s_k = (1[y = k] - P_S(k)) / t
            for k in range(student.shape[1]):
                slope = (float(y == k) - predicted[k]) / temperature
                gradient[i, k] -= target[y] * slope / len(student)
    return loss, gradient


def value_and_gradients(student, teacher, temperature):
    student, teacher = tf.convert_to_tensor(student), tf.convert_to_tensor(teacher)
    with tf.GradientTape() as tape:
        tape.watch([student, teacher])
        loss = objectives.distillation(student, teacher, temperature)
    return loss, *tape.gradient(loss, [student, teacher])


def random_logits(batch, classes, scale=1.0, seed=0):
    pair = np.random.default_rng(seed).normal(size=(2, batch, classes)) * scale
    return pair.astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "scale", "temperature"),
    [
        ((5, 4), 1.0, 1.0),
        ((5, 4), 3.0, 0.1),
        ((7, 10), 2.0, 4.0),
        ((4, 6), 1e4, 1.0),
        ((4, 6), 1e4, 0.1),
        ((3, 1), 5.0, 1.0),
        ((1, 5), 2.0, 0.5),
    ],
)
def test_loss_and_gradient_equal_the_papers_loops(shape, scale, temperature):
    student, teacher = random_logits(*shape, scale)
    expected, expected_gradient = by_loops(student, teacher, temperature)
    loss, gradient, teacher_gradient = value_and_gradients(student, teacher, temperature)
    assert loss.dtype == tf.float32 and loss.shape == ()
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=2e-4, atol=1e-6 / temperature)
    assert teacher_gradient is None
    plain = objectives.distillation(student, teacher, temperature)  # NumPy
    np.testing.assert_array_equal(plain, loss)
    per_example = objectives.distillation_per_example(student, teacher, temperature)
    for i in range(shape[0]):
        one, _ = by_loops(student[i : i + 1], teacher[i : i + 1], temperature)
        np.testing.assert_allclose(per_example[i], one, rtol=1e-5, atol=1e-7)


def test_low_precision_inputs_are_computed_in_float32():
    student, teacher = (tf.cast(x, tf.bfloat16) for x in random_logits(6, 5, 3.0))
    expected, expected_gradient = by_loops(
        tf.cast(student, tf.float32), tf.cast(teacher, tf.float32), 0.5
    )
    loss, gradient, _ = value_and_gradients(student, teacher, 0.5)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(tf.cast(gradient, tf.float32), expected_gradient, rtol=1e-2)


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_a_student_equal_to_its_teacher_has_the_entropy_and_no_gradient(scale):
    logits, _ = random_logits(6, 5, scale)
    entropy = 0.0
    for row in logits:
        p, log_p = probabilities(row, 0.7)
        entropy -= sum(a * b for a, b in zip(p, log_p, strict=True)) / len(logits)
    loss, gradient, _ = value_and_gradients(logits, logits, 0.7)
    np.testing.assert_allclose(loss, entropy, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(gradient, np.zeros_like(logits), atol=1e-7)


def test_bad_arguments_of_the_loss():
    student, teacher = random_logits(4, 3)
    for temperature in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"`temperature` .* temperature={temperature}"):
            objectives.distillation(student, teacher, temperature)
    for wrong in (teacher[:3], teacher[:, :2], teacher[0], teacher[None]):
        with pytest.raises(ValueError, match="`student_logits` and `teacher_logits`"):
            objectives.distillation(student, wrong)
    with pytest.raises(ValueError, match="`student_logits` and `teacher_logits`"):
        objectives.distillation(student[0], teacher[0])


def test_loss_compiles_with_xla():
    student = keras.Sequential([keras.Input((7,)), keras.layers.Dense(5)])
    inputs = tf.constant(np.random.default_rng(1).normal(size=(6, 7)), tf.float32)
    teacher = random_logits(6, 5, 2.0)[1]

    @tf.function(jit_compile=True)
    def step(inputs, teacher):
        with tf.GradientTape() as tape:
            loss = objectives.distillation(student(inputs), teacher, 0.5)
        return loss, tape.gradient(loss, student.trainable_variables)

    loss, gradients = step(inputs, teacher)
    expected, logits_gradient = by_loops(student(inputs), teacher, 0.5)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(gradients[0], inputs.numpy().T @ logits_gradient, rtol=1e-3)


# --- The stage ------------------------------------------------------------------------------------


def small_encoder(width=8):
    """One convolution and batch norm: what a stage asks of an encoder, in a moment's tracing."""
    images = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(width, 3, 2, use_bias=False, name="stem_conv")(images)
    x = keras.layers.ReLU()(BatchNorm(name="stem_bn")(x))
    x = keras.layers.GlobalAveragePooling2D(dtype="float32")(x)
    return keras.Model(images, x)


def teacher_network(num_classes=3, encoder=small_encoder):
    """A teacher with batch norm and dropout, which would show that it is not in inference mode."""
    keras.utils.set_random_seed(7)
    encoder = encoder()
    dropped = keras.layers.Dropout(0.5)(encoder.output)
    classifier = keras.layers.Dense(num_classes, name="teacher_classifier", dtype="float32")
    return keras.Model(encoder.input, 10.0 * classifier(dropped))


def student_networks(seed=0, encoder=small_encoder, head=False):
    keras.utils.set_random_seed(seed)
    encoder = encoder()
    width = encoder.output_shape[-1]
    part = heads.up_to(heads.projection_head(width, 2, 8), 1) if head else None
    return encoder, heads.classifier(width, 3), part


def distiller(teacher=None, learning_rate=0.05, encoder=small_encoder, head=False, **kwargs):
    encoder, classifier, part = student_networks(0, encoder, head)
    stage = stages.Distiller(encoder, classifier, teacher or teacher_network(), part, **kwargs)
    optimizer = optimizers.make_optimizer("momentum", learning_rate)
    stage.compile(optimizer, jit_compile=False)
    optimizer.build(stage.trainable_variables)
    return stage


def weights(*models):
    return {v.path: v.numpy() for model in models for v in model.weights}


def batch(count=6, seed=0):
    return tf.constant(np.random.default_rng(seed).random((count, 8, 8, 3), dtype=np.float32))


def mixed_batch(count=6, labelled=4):
    labels = tf.constant(np.random.default_rng(3).integers(0, 3, labelled))
    return batch(count), (batch(labelled, seed=1), labels)


def test_teacher_is_left_alone_and_is_no_part_of_the_stage(tmp_path):
    def residual():
        return resnet.resnet(10, 1 / 16, image_size=8)

    def penalty(variables):
        penalized.extend(variables)
        return tf.constant(0.0)

    penalized, teacher = [], teacher_network(encoder=residual)
    stage = distiller(teacher, encoder=residual, head=True, penalty=penalty)
    before, student_before = weights(teacher), weights(stage.encoder, stage.classifier)
    train = tf.function(stage.train_step)
    for step in range(3):
        train(batch(seed=step))
    for path, value in weights(teacher).items():
        np.testing.assert_array_equal(value, before[path], err_msg=path)
    after = weights(stage.encoder, stage.classifier)
    for path in ("stem_conv/kernel", "stem_bn/moving_mean", "classifier/kernel"):
        assert np.any(after[path] != student_before[path]), path

    student = {id(v) for m in (stage.encoder, stage.head, stage.classifier) for v in m.weights}
    theirs = {id(v) for v in teacher.weights}
    assert {id(v) for v in stage.weights} == student
    assert {id(v) for v in penalized} == {id(v) for v in stage.trainable_variables} <= student
    assert not theirs & {id(v) for v in [*stage.variables, *stage.optimizer.variables]}
    # The iteration, the learning rate, and one momentum for each weight.
    assert len(stage.optimizer.variables) == 2 + len(stage.trainable_variables)
    prefix = tf.train.Checkpoint(stage=stage).write(str(tmp_path / "stage"))
    assert not any("teacher" in name for name, _ in tf.train.list_variables(prefix))
    graph = tf.train.load_checkpoint(prefix).get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH")
    assert b"classifier" in graph and b"teacher_classifier" not in graph


def test_teacher_answers_in_inference_mode_and_stays_in_the_same_crop():
    asked = []

    def teacher(images, training=True):
        asked.append((images, training))
        return tf.zeros((tf.shape(images)[0], 3))

    stage, data = distiller(teacher, alpha=0.5), mixed_batch()
    stage.train_step(data)
    stage.test_step(batch(5))
    assert [training for _, training in asked] == [False, False]
    np.testing.assert_array_equal(asked[0][0], data[0])


@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("squared", [False, True])
def test_distillation_alone_is_the_papers_equation(squared, head):
    teacher, images = teacher_network(), batch()
    stage = distiller(teacher, temperature=3.0, squared_temperature=squared, head=head)
    hidden = stage.encoder(images, training=True)
    logits = stage.classifier(stage.head(hidden, training=True) if head else hidden)
    teacher_logits = teacher(images, training=False)
    expected, _ = by_loops(logits, teacher_logits, 3.0)
    logs = stage.train_step((images,))
    np.testing.assert_allclose(logs["distill_loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], expected * (9.0 if squared else 1.0), rtol=1e-5)
    agree = np.mean(np.argmax(logits, -1) == np.argmax(teacher_logits, -1))
    np.testing.assert_allclose(logs["teacher_agreement"], agree, rtol=1e-6)
    assert set(logs) == {"loss", "distill_loss", "teacher_agreement"}


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_labelled_images_join_in_as_in_equation_3(alpha):
    teacher = teacher_network()
    images, (labelled_images, labels) = data = mixed_batch(6, 4)
    stage = distiller(teacher, temperature=2.0, alpha=alpha)
    hidden = stage.encoder(tf.concat([images, labelled_images], 0), training=True)
    logits = stage.classifier(hidden).numpy()
    distilled, _ = by_loops(logits[:6], teacher(images, training=False), 2.0)
    rows = zip(logits[6:], labels.numpy(), strict=True)
    classified = -np.mean([probabilities(row, 1.0)[1][label] for row, label in rows])
    logs = stage.train_step(data)
    np.testing.assert_allclose(logs["distill_loss"], distilled, rtol=1e-5)
    np.testing.assert_allclose(logs["label_loss"], classified, rtol=1e-5)
    expected = (1 - alpha) * classified + alpha * distilled
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)
    accuracy = np.mean(np.argmax(logits[6:], -1) == labels.numpy())
    np.testing.assert_allclose(logs["top_1_accuracy"], accuracy, rtol=1e-6)


@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_update_is_that_of_the_formula_written_by_hand(alpha):
    teacher = teacher_network()
    images, (labelled_images, labels) = mixed_batch(6, 4)
    stage, same = distiller(teacher, alpha=alpha), distiller(teacher)
    target = tf.nn.softmax(teacher(images, training=False))
    both = images if alpha == 1 else tf.concat([images, labelled_images], 0)
    variables = same.trainable_variables
    with tf.GradientTape() as tape:
        logs = tf.nn.log_softmax(same.classifier(same.encoder(both, training=True)))
        loss = -alpha * tf.reduce_sum(target * logs[:6]) / 6.0
        for i in range(len(both) - 6):
            loss -= (1 - alpha) * logs[6 + i, int(labels[i])] / 4.0
    expected = tape.gradient(loss, variables)
    with tf.GradientTape() as tape:
        loss = stage.training_loss((images,) if alpha == 1 else (images, (labelled_images, labels)))
    gradients = tape.gradient(loss, stage.trainable_variables)
    for gradient, value, variable in zip(gradients, expected, variables, strict=True):
        scale = max(np.abs(value).max(), 1e-6)
        np.testing.assert_allclose(gradient, value, atol=1e-4 * scale, err_msg=variable.path)
    moving = weights(stage.encoder)["stem_bn/moving_mean"]
    np.testing.assert_allclose(moving, weights(same.encoder)["stem_bn/moving_mean"], rtol=1e-6)


def test_bfloat16_student_has_float32_losses():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        encoder, classifier, _ = student_networks()
    finally:
        keras.config.set_dtype_policy("float32")
    assert encoder.get_layer("stem_conv").compute_dtype == "bfloat16"
    stage = stages.Distiller(encoder, classifier, teacher_network(), temperature=0.1, alpha=0.5)
    loss = stage.training_loss(mixed_batch())
    assert loss.dtype == tf.float32 and np.isfinite(loss)
    full = distiller(temperature=0.1, alpha=0.5).training_loss(mixed_batch())
    np.testing.assert_allclose(loss, full, rtol=0.1)


def test_evaluation_counts_padding_and_missing_labels_as_nothing():
    teacher, images = teacher_network(), batch(6)
    labels = np.array([0, 2, -1, 1, 0, 1])
    stage = distiller(teacher, temperature=2.0, alpha=0.3)
    logits, teacher_logits = stage(images).numpy(), teacher(images).numpy()
    stage.reset_metrics()
    stage.test_step((images[:4], tf.constant(labels[:4]), tf.ones(4)))
    padded = tf.concat([images[4:], images[:2]], 0)
    logs = stage.test_step((padded, tf.constant([0, 1, 1, 1]), tf.constant([1.0, 1.0, 0.0, 0.0])))
    distilled, _ = by_loops(logits, teacher_logits, 2.0)
    rows = [(row, y) for row, y in zip(logits, labels, strict=True) if y >= 0]
    classified = -np.sum([probabilities(row, 1.0)[1][y] for row, y in rows])
    np.testing.assert_allclose(logs["distill_loss"], distilled, rtol=1e-5)
    np.testing.assert_allclose(logs["label_loss"], classified / 5, rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], 0.7 * classified / 6 + 0.3 * distilled, rtol=1e-5)
    agree = np.mean(np.argmax(logits, -1) == np.argmax(teacher_logits, -1))
    np.testing.assert_allclose(logs["teacher_agreement"], agree, rtol=1e-6)
    right = np.mean([np.argmax(row) == y for row, y in rows])
    np.testing.assert_allclose(logs["top_1_accuracy"], right, rtol=1e-6)
    stage.reset_metrics()
    np.testing.assert_allclose(stage.test_step(images)["distill_loss"], distilled, rtol=1e-5)


def test_labels_cannot_reach_a_student_that_only_distills():
    stage = distiller()
    with pytest.raises(ValueError, match="alpha=1.0, data of shapes"):
        stage.train_step((batch(6), tf.zeros(6, tf.int64)))
    with pytest.raises(ValueError, match="alpha=1.0, data of shapes"):
        stage.train_step(mixed_batch())
    # Evaluation data have labels; these are not looked at.
    logs = [
        stage.test_step((batch(6), labels)) for labels in (tf.zeros(6, tf.int64), tf.fill([6], 99))
    ]
    assert logs[0].keys() == {"loss", "distill_loss", "teacher_agreement"}
    np.testing.assert_allclose(logs[0]["loss"], logs[1]["loss"], rtol=1e-6)
    with pytest.raises(ValueError, match="alpha=0.5, data of shapes"):
        distiller(alpha=0.5).train_step(batch(6))


def test_a_loaded_saved_model_is_a_teacher(tmp_path):
    keras.utils.set_random_seed(4)
    encoder = resnet.resnet(18, 1 / 16, image_size=8)
    classifier = heads.classifier(encoder.output_shape[-1], 3)
    export(str(tmp_path / "teacher"), encoder, None, classifier)
    module = tf.saved_model.load(str(tmp_path / "teacher"))
    before = [v.numpy() for v in module.variables]
    stage, images = distiller(module), batch()
    tf.function(stage.train_step)(images)
    for value, variable in zip(before, module.variables, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert not {id(v) for v in module.variables} & {id(v.value) for v in stage.variables}
    expected, _ = by_loops(stage(images), classifier(encoder(images)), 1.0)
    stage.reset_metrics()
    np.testing.assert_allclose(stage.test_step(images)["distill_loss"], expected, rtol=1e-4)


def test_student_comes_to_agree_with_its_teacher():
    teacher, images = teacher_network(), batch(16)
    stage = distiller(teacher, learning_rate=0.3)
    data = tf.data.Dataset.from_tensors(images).repeat(100)
    history = stage.fit(data, epochs=2, steps_per_epoch=50, verbose=0).history
    floor, _ = by_loops(teacher(images), teacher(images), 1.0)
    first, last = (value - floor for value in history["distill_loss"])
    assert 0 < last < 0.5 * first, history
    assert history["teacher_agreement"][-1] > history["teacher_agreement"][0], history


def test_bad_arguments_of_the_stage():
    encoder, classifier, _ = student_networks()
    for option in ({"alpha": -0.1}, {"alpha": 1.5}, {"alpha": float("nan")}, {"temperature": 0}):
        ((name, value),) = option.items()
        with pytest.raises(ValueError, match=f"`{name}` .* {name}={value}"):
            stages.Distiller(encoder, classifier, teacher_network(), **option)
    stage = stages.Distiller(encoder, classifier, teacher_network(num_classes=4))
    with pytest.raises(ValueError, match=r"\(6, 4\)"):
        stage.training_loss(batch(6))


# --- Replicas -------------------------------------------------------------------------------------


def streams(count, labelled):
    """Seeded random unlabelled and labelled streams, each with its own batch size."""

    def images(index, seed, size):
        return tf.random.stateless_uniform((size, 8, 8, 3), tf.stack([index, seed]))

    def labels(index):
        seed = tf.stack([index, 3])
        return tf.random.stateless_uniform([labelled], seed, maxval=3, dtype=tf.int64)

    steps = tf.data.Dataset.range(100)
    unlabelled = steps.map(lambda i: images(i, 1, count))
    return unlabelled, steps.map(lambda i: (images(i, 2, labelled), labels(i)))


REPLICAS = textwrap.dedent(
    """
    import json, sys
    import numpy as np, tensorflow as tf
    from simclrv2_tf import distribute
    count = int(sys.argv[1])
    strategy = distribute.make_strategy("mirrored" if count > 1 else "default", count)
    sys.path.insert(0, sys.argv[2])
    import test_distillation as t
    from simclrv2_tf import loop

    with strategy.scope():
        teacher = t.teacher_network()
        stage = t.distiller(teacher, alpha=0.3, head=True, temperature=2.0)
    before = t.weights(teacher)

    def batches(context):
        unlabelled, labelled = t.streams(8, 4)
        replicas = context.num_replicas_in_sync
        return tf.data.Dataset.zip(
            (unlabelled.rebatch(8 // replicas), labelled.rebatch(4 // replicas))
        )

    options = dict(schedule=lambda s: 0.05, total_steps=2, epochs=1, verbose=0)
    loop.train(stage, strategy, batches, **options)
    logs = {k: float(v) for k, v in stage.get_metrics_result().items()}
    for path, value in t.weights(teacher).items():
        np.testing.assert_array_equal(value, before[path], err_msg=path)
    values = t.weights(stage.encoder, stage.head, stage.classifier)
    np.savez(sys.argv[3], **{k.replace("/", "|"): v for k, v in values.items()})
    print(json.dumps(logs))
    """
)


def test_two_replicas_equal_one(tmp_path):
    results, logs = [], []
    for count in ("1", "2"):
        file = tmp_path / f"{count}.npz"
        here = os.path.dirname(__file__)
        done = subprocess.run(
            [sys.executable, "-c", REPLICAS, count, here, str(file)],
            capture_output=True,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        logs.append(json.loads(done.stdout.splitlines()[-1]))
        results.append(dict(np.load(file)))
    assert logs[0].keys() == logs[1].keys()
    for name, value in logs[0].items():
        np.testing.assert_allclose(logs[1][name], value, rtol=1e-4, err_msg=name)
    for name, value in results[0].items():
        scale = max(np.abs(value).max(), 1e-3)
        np.testing.assert_allclose(results[1][name], value, atol=1e-4 * scale, err_msg=name)


def test_stop_and_resume_equals_not_stopping(tmp_path):
    teacher = teacher_network()

    def make():
        stage = distiller(teacher, alpha=0.5)
        state = checkpoints.named(stage.weights, stage.optimizer)
        return stage, checkpoints.Checkpoints(str(tmp_path), state, keep=1)

    def train(stage, start, stop):
        loop.train(
            stage,
            tf.distribute.get_strategy(),
            lambda context: tf.data.Dataset.zip(streams(6, 4)).skip(start),
            schedule=lambda step: 0.05,
            total_steps=stop,
            epochs=1,
            start_step=start,
            verbose=0,
        )

    straight, _ = make()
    train(straight, 0, 4)
    first, store = make()
    train(first, 0, 2)
    store.save(2)
    second, store = make()
    assert store.restore()
    train(second, 2, 4)
    expected = weights(straight.encoder, straight.classifier)
    for path, value in weights(second.encoder, second.classifier).items():
        np.testing.assert_allclose(value, expected[path], rtol=1e-5, atol=1e-7, err_msg=path)
