"""Fine-tuning: SimCLRv2's second stage, from a middle layer of the projection head."""

from __future__ import annotations

from simclrv2_tf.experiments.classification import Classification


def _published(config, fraction):
    """60 epochs at 1%, 30 at 10% and above; wider or selective-kernel networks less rate."""
    large = config.width_multiplier > 1 or config.sk_ratio > 0
    return {
        "optimizer": "lars",
        "learning_rate": 0.002 if large else 0.005,
        "learning_rate_scaling": "sqrt",
        "warmup_epochs": 0.0,
        "weight_decay": 0.0,
        "zero_init_logits_layer": True,
        "train_epochs": 60 if fraction and fraction < 0.05 else 30,
        "ft_proj_selector": min(1, config.num_head_layers),
    }


class FineTuning(Classification):
    """Trains the whole pretrained network with a classifier on a layer of its head."""

    train_mode = "finetune"
    summary = (
        "a classifier on a layer of the pretrained head, and the network above "
        "`fine_tune_after_block`."
    )
    published = {"fine_tuned": _published}

    @property
    def method(self):
        return f"fine-tuning from layer {self.config.ft_proj_selector} of the head"
