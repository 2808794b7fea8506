"""Supervised training: the baseline from random weights."""

from __future__ import annotations

from simclrv2_tf.experiments.classification import Classification
from simclrv2_tf.experiments.linear_eval import NESTEROV


class Supervised(Classification):
    """Trains encoder and classifier on the labelled images alone."""

    train_mode = "supervised"
    summary = "a classifier and its encoder from random weights."
    published = {
        "supervised": lambda config, fraction: {
            **NESTEROV,
            "weight_decay": 1e-4,
            "ft_proj_selector": 0,
        }
    }
    method = "supervised training from random weights"
