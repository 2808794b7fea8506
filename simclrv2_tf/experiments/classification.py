"""A classifier on an encoder: shared by linear evaluation, fine-tuning and supervised training."""

from __future__ import annotations

from etils import epy

from simclrv2_tf.experiments import evaluation
from simclrv2_tf.experiments.data import Batches, has_labels
from simclrv2_tf.experiments.directory import RunError
from simclrv2_tf.experiments.stage import Built, StageRun

with epy.lazy_imports():
    from simclrv2_tf import resnet, stages


class Classification(StageRun):
    """Trains a classifier and what lies below it, as far as `frozen_up_to` lets it."""

    def open(self):
        split = self.data.labelled_images(self.config)
        if not (has_labels(split) and has_labels(self.eval_split)):
            raise RunError(
                f"train_mode={self.train_mode} needs labels, and {self.data.main.name} has none "
                f"in {split.name} or {self.eval_split.name}. Put the images in a folder for each "
                "class, or use --train_mode=pretrain."
            )
        return split, split

    @property
    def frozen_up_to(self) -> int:
        """The block group up to which the encoder is frozen, as for `resnet.freeze`."""
        return self.config.fine_tune_after_block

    def build(self, **options):
        networks = self.keep_used_head(self.build_networks(self.data.main.num_classes))
        resnet.freeze(networks.encoder, self.frozen_up_to)
        if networks.head is not None:
            networks.head.trainable = self.trains_head
        stage = stages.Classifier(
            networks.encoder, networks.classifier, networks.head_part, **options
        )
        return Built(networks, stage)

    @property
    def trains_head(self) -> bool:
        """Whether the layers of the head below the classifier train."""
        return True

    def batches(self, context, start_step):
        size = self.config.train_batch_size
        return Batches(self.config, context).crops(self.train_split, size, start_step)

    def evaluate(self, built):
        metrics, calibration = evaluation.evaluate_classifier(
            self, built.networks.image_classifier(), self.data.main.num_classes
        )
        evaluation.write_calibration(self, {self.train_mode: calibration})
        return metrics
