"""A classifier on an encoder: linear evaluation, fine-tuning and supervised training."""

from __future__ import annotations

from etils import epy

from simclrv2_tf.experiments import evaluation, validation
from simclrv2_tf.experiments.data import Batches, has_labels
from simclrv2_tf.experiments.directory import RunError
from simclrv2_tf.experiments.stage import Built, StageRun

with epy.lazy_imports():
    from simclrv2_tf import resnet, stages
    from simclrv2_tf.datasets import labels as label_subset

# Not taken from pretraining's flags: its optimizer, and its layer for the online classifier.
_NESTEROV = {
    "optimizer": "momentum",
    "momentum": 0.9,
    "learning_rate": 0.1,
    "learning_rate_scaling": "linear",
    "warmup_epochs": 0.0,
    "train_epochs": 90,
    "ft_proj_selector": 0,
}


class Classification(StageRun):
    """Trains a classifier, and the parts of the network below it that are not frozen.

    Attributes:
        frozen_up_to: The block group up to which the encoder is frozen, as for `resnet.freeze`.
        trains_head: Whether the layers of the head below the classifier train.
    """

    trains_head = True

    @property
    def frozen_up_to(self) -> int:
        return self.config.fine_tune_after_block

    def open(self):
        split = self.checked_labelled_images()
        train, self.validation_split = validation.parts(self, split)
        return train.balanced() if self.config.balanced_sampling else train, split

    def checked_labelled_images(self):
        """The examples whose labels the stage may use.

        Raises:
            RunError: the examples or the evaluation split have no labels.
        """
        split = self.data.labelled_images(self.config)
        if not (has_labels(split) and has_labels(self.eval_split)):
            raise RunError(
                f"train_mode={self.train_mode} needs labels, but {self.data.main.name} has none in "
                f"{split.name} or {self.eval_split.name}. Put the images in one folder per class, "
                "or use --train_mode=pretrain."
            )
        self.check_all_labelled()
        return split

    def build(self, **options):
        networks = self.build_networks(self.data.main.num_classes)
        resnet.freeze(networks.encoder, self.frozen_up_to)
        networks.head.trainable = self.trains_head
        weights = None
        if self.config.class_weights == "balanced":
            _, labels = self.train_split.labels()
            weights = label_subset.balanced_weights(labels, self.data.main.num_classes)
        stage = stages.Classifier(
            networks.encoder, networks.classifier, networks.head_part, weights, **options
        )
        return Built(networks, stage)

    def batches(self, context, start_step):
        size = self.config.train_batch_size
        return Batches(self.config, context).crops(self.train_split, size, start_step)

    def evaluate(self, built):
        metrics, calibration = evaluation.evaluate_classifier(
            self, built, built.networks.image_classifier, self.data.main.num_classes
        )
        evaluation.write_calibration(self, {self.train_mode: calibration})
        return metrics


class LinearEvaluation(Classification):
    """Trains a classifier on the frozen encoder and head."""

    train_mode = "linear_eval"
    title = "linear evaluation"
    passes = 1
    summary = (
        "a classifier on the frozen encoder and head, like finetune with fine_tune_after_block=4."
    )
    published = {
        "linear_eval": lambda config, fraction: {
            **_NESTEROV, "weight_decay": 1e-6, "zero_init_logits_layer": True,
        }
    }  # fmt: skip
    method = "a linear classifier on the frozen encoder"
    frozen_up_to = 4
    trains_head = False


class Supervised(Classification):
    """Trains encoder and classifier only on the labelled images: the baseline."""

    train_mode = "supervised"
    title = "supervised training"
    summary = "a classifier and its encoder from random weights."
    published = {
        "supervised": lambda config, fraction: {
            **_NESTEROV, "weight_decay": 1e-4, "zero_init_logits_layer": False,
        }
    }  # fmt: skip
    method = "supervised training from random weights"


def _fine_tuning(config, fraction):
    """60 epochs at 1%, 30 at 10% and above; a lower rate for wider or selective-kernel networks.

    Uses the encoder's output with all labels, and the first layer of the head with fewer.
    """
    large = config.width_multiplier > 1 or config.sk_ratio > 0
    all_labels = fraction is not None and fraction >= 1
    return {
        "optimizer": "lars",
        "momentum": 0.9,
        "learning_rate": 0.002 if large else 0.005,
        "learning_rate_scaling": "sqrt",
        "warmup_epochs": 0.0,
        "weight_decay": 0.0,
        "zero_init_logits_layer": True,
        "train_epochs": 60 if fraction and fraction < 0.05 else 30,
        "ft_proj_selector": 0 if all_labels else min(1, config.num_head_layers),
    }


class FineTuning(Classification):
    """Trains the pretrained network with a classifier on a layer of its head."""

    train_mode = "finetune"
    title = "fine-tuning"
    summary = (
        "a classifier on a layer of the pretrained head, and the network above "
        "`fine_tune_after_block`."
    )
    published = {"fine_tuned": _fine_tuning}

    @property
    def method(self):
        return f"fine-tuning from layer {self.config.ft_proj_selector} of the head"
