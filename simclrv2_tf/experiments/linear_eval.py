"""Linear evaluation: a classifier on the frozen encoder."""

from __future__ import annotations

from simclrv2_tf.experiments.classification import Classification

# The released code's settings, and the paper's (arXiv 2006.10029, section 3.1).
NESTEROV = {
    "optimizer": "momentum",
    "learning_rate": 0.1,
    "learning_rate_scaling": "linear",
    "warmup_epochs": 0.0,
    "train_epochs": 90,
}


class LinearEvaluation(Classification):
    """Trains a classifier on the encoder and head, which stay as they are."""

    train_mode = "linear_eval"
    summary = (
        "a classifier on the frozen encoder and head, like finetune with fine_tune_after_block=4."
    )
    published = {"linear_eval": lambda config, fraction: {**NESTEROV, "weight_decay": 1e-6}}
    method = "a linear classifier on the frozen encoder"
    frozen_up_to = 4
    trains_head = False
