"""The projection head, with all its layers as outputs, the predictor and the classifier."""

import keras
from keras import layers

from simclrv2_tf.batch_norm import BatchNorm
from simclrv2_tf.network_options import HeadOptions
from simclrv2_tf.options import check_sizes, of


def projection_head(
    feature_dim: int,
    num_layers: int = 3,
    out_dim: int = 128,
    mode: str = "nonlinear",
    global_batch_norm: bool = True,
    batch_norm_decay: float = 0.9,
    hidden_dim: int | None = None,
    output_batch_norm: bool = True,
    output_scale: bool = True,
) -> keras.Model:
    """Builds g(.) of SimCLRv2 (arXiv 2006.10029, section 2.1): (B, f) to a list of hiddens.

    Element 0 of the list is the input (B, f), element k the output of layer k after its ReLU
    (B, hidden_dim), element -1 the embedding (B, out_dim) in float32. Any of them can feed a
    classifier (`ft_proj_selector`).

    Args:
        feature_dim: f, the encoder's width.
        num_layers: Layers of the nonlinear head, at least 1: 3 in SimCLRv2, 2 in SimCLR.
        out_dim: d, the width of the embedding.
        mode: "nonlinear": dense, batch norm, ReLU, the last layer without ReLU and its batch
            norm without beta. "linear": only that last layer. "none": the embedding is the input,
            which occurs twice in the list.
        global_batch_norm: Whether to compute batch statistics over all replicas.
        batch_norm_decay: Weight of the past in the moving statistics.
        hidden_dim: Width of the hidden layers; f by default, as in SimCLRv2.
        output_batch_norm: Whether the last layer has a batch norm, as in SimCLRv2; the projectors
            of VICReg and Barlow Twins end with the dense layer.
        output_scale: Whether that batch norm has a scale; SimSiam's has none.

    Raises:
        ValueError: a value is out of its range.
    """
    hidden_dim = feature_dim if hidden_dim is None else hidden_dim
    of(HeadOptions)["proj_head_mode"].check(mode, "mode")
    check_sizes(
        feature_dim=feature_dim, num_layers=num_layers, out_dim=out_dim, hidden_dim=hidden_dim
    )
    representation = keras.Input((feature_dim,), name="representation")
    hiddens = [layers.Identity(name="hidden0", dtype="float32")(representation)]
    depth = {"nonlinear": num_layers, "linear": 1, "none": 0}[mode]
    for k in range(1, depth + 1):
        last = k == depth
        batch_norm = output_batch_norm or not last
        x = layers.Dense(
            out_dim if last else hidden_dim,
            use_bias=False,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            dtype=None if batch_norm else "float32",
            name=f"projection{k}_dense",
        )(hiddens[-1])
        if batch_norm:
            x = BatchNorm(
                center=not last,
                scale=output_scale or not last,
                momentum=batch_norm_decay,
                global_statistics=global_batch_norm,
                dtype="float32" if last else None,
                name=f"projection{k}_bn",
            )(x)
        hiddens.append(x if last else layers.ReLU(name=f"projection{k}_relu")(x))
    if depth == 0:
        # Keras unpacks a list of one output.
        hiddens.append(layers.Identity(name="embedding", dtype="float32")(representation))
    return keras.Model(representation, hiddens, name="head")


def up_to(head: keras.Model, layer: int) -> keras.Model:
    """Returns the part of `head` up to its hidden `layer`, with shared weights: (B, f) to (B,
    width).

    Raises:
        ValueError: the head has no such layer.
    """
    if not -1 <= layer < len(head.outputs):
        raise ValueError(
            f"`layer` must be in -1..{len(head.outputs) - 1}, the layers of this head. "
            f"Received: layer={layer}"
        )
    return keras.Model(head.input, head.outputs[layer], name="head_part")


def predictor(
    width: int,
    hidden_dim: int,
    global_batch_norm: bool = True,
    batch_norm_decay: float = 0.9,
) -> keras.Model:
    """Builds the predictor of BYOL and SimSiam: embeddings (B, width) to (B, width), float32.

    A dense layer of width `hidden_dim`, batch norm, ReLU, and a dense layer with bias (arXiv
    2006.07733, section 3.3; arXiv 2011.10566, section 3).

    Raises:
        ValueError: a size is below 1.
    """
    check_sizes(width=width, hidden_dim=hidden_dim)
    embedding = keras.Input((width,), name="embedding")
    x = layers.Dense(hidden_dim, use_bias=False, name="predictor1_dense")(embedding)
    x = BatchNorm(
        momentum=batch_norm_decay, global_statistics=global_batch_norm, name="predictor1_bn"
    )(x)
    x = layers.ReLU(name="predictor1_relu")(x)
    prediction = layers.Dense(width, dtype="float32", name="predictor2_dense")(x)
    return keras.Model(embedding, prediction, name="predictor")


def classifier(feature_dim: int, num_classes: int, zero_init: bool = False) -> keras.Model:
    """Builds a linear classifier with bias: (B, feature_dim) to logits (B, num_classes), float32.

    The kernel starts at N(0, 0.01), or at zero with `zero_init`, as for fine-tuning.

    Raises:
        ValueError: a size is below 1.
    """
    check_sizes(feature_dim=feature_dim, num_classes=num_classes)
    inputs = keras.Input((feature_dim,), name="features")
    kernel = "zeros" if zero_init else keras.initializers.RandomNormal(stddev=0.01)
    # The layer's name is part of its variables' paths, by which LARS identifies the supervised
    # head.
    logits = layers.Dense(
        num_classes, kernel_initializer=kernel, dtype="float32", name="classifier"
    )(inputs)
    return keras.Model(inputs, logits, name="classifier_model")
