"""Distillation: SimCLRv2's third stage, which trains a student on a teacher's probabilities."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import logging
from etils import epy

from simclrv2_tf.experiments import evaluation, label_budget, validation
from simclrv2_tf.experiments.data import (
    Batches,
    has_labels,
    labelled_batch_size,
    without_labels,
)
from simclrv2_tf.experiments.directory import RunError
from simclrv2_tf.experiments.stage import Built, StageRun
from simclrv2_tf.optimizers.options import OptimizerOptions
from simclrv2_tf.options import of

with epy.lazy_imports():
    import tensorflow as tf

    from simclrv2_tf import datasets, stages, weights
    from simclrv2_tf.export import model_card
    from simclrv2_tf.weights import teachers

if TYPE_CHECKING:
    from simclrv2_tf.weights.teachers import Teacher


def _student(config, temperature):
    """The student has no projection head; its optimizer, schedule and batch are pretraining's.

    The run's own `temperature` belongs to the contrastive loss and is a different quantity.
    """
    of_pretraining = config.stage_options.get("pretrain", {})
    schedule = set(of(OptimizerOptions)) - {"train_epochs", "train_steps"}
    return {
        **{name: value for name, value in of_pretraining.items() if name in schedule},
        "train_epochs": 400,
        "temperature": temperature,
        "ft_proj_selector": 0,
        "zero_init_logits_layer": False,
    }


def _small_student(config, fraction):
    narrowest = of(type(config))["width_multiplier"].minimum
    width = max(config.width_multiplier / 2, narrowest)
    return {**_student(config, 1.0), "width_multiplier": width}


def _shown(names: Sequence[str], first: int) -> str:
    """Returns three names, starting with number `first`."""
    return ", ".join(names[first : first + 3]) + ", ..." * (len(names) > first + 3)


@dataclasses.dataclass(frozen=True)
class _Built(Built):
    """Adds the teacher, which is evaluated alongside its student."""

    teacher: Teacher | None = None


class Distillation(StageRun):
    """Trains a student that matches the class probabilities of `teacher` on unlabelled images."""

    train_mode = "distill"
    title = "distillation"
    passes = 4  # including the teacher's
    summary = "a student that matches the class probabilities of `teacher` on unlabelled images."
    published = {
        "self_distilled": lambda config, fraction: _student(config, 0.1),
        "small_student": _small_student,
    }

    def open(self):
        config = self.config
        # The split never has labels: the loader does not read them.
        split = without_labels(self.data.unlabelled_images(config))
        split, self.validation_split = validation.parts(self, split)
        if config.distill_alpha == 1:
            return split, None
        labelled = self.data.labelled_images(config)
        if not has_labels(labelled):
            raise RunError(
                "`distill_alpha` must be 1 without labels, and "
                f"{self.data.main.name} has none in {labelled.name}. "
                f"Received: distill_alpha={config.distill_alpha}"
            )
        self.check_all_labelled()
        size = labelled_batch_size(config, labelled, self.replicas)
        datasets.check_batch_size(labelled, size, "labelled_batch_size")
        return split, labelled.balanced() if config.balanced_sampling else labelled

    @property
    def method(self):
        teacher = model_card.public(self.config.teacher)
        return f"distillation of {teacher} at temperature {self.config.temperature:g}"

    @property
    def images_name(self):
        return self.config.unlabelled_dataset or self.config.dataset

    def made_of(self):
        return {**super().made_of(), "teacher": weights.fingerprint(self.config.teacher)}

    def build(self, **options):
        config = self.config
        label_budget.check(config, self.data)
        teacher = teachers.load(config.teacher, self.seams.resnet)
        self._check_channels(teacher)
        self._check_classes(teacher)
        networks = self.build_networks(teacher.num_classes)
        stage = stages.Distiller(
            networks.encoder,
            networks.classifier,
            teacher.predict,
            networks.head_part,
            temperature=config.temperature,
            alpha=config.distill_alpha,
            squared_temperature=config.distill_squared_temperature,
            **options,
        )
        return _Built(networks, stage, teacher=teacher)

    def _check_channels(self, teacher: Teacher) -> None:
        channels, path = self.config.channels, self.config.teacher
        if teacher.channels != channels:
            raise RunError(
                f"`channels` must be {teacher.channels}, the teacher's number: teacher and student "
                f"see the same images. Received: channels={channels}, teacher={path}"
            )

    def _check_classes(self, teacher: Teacher) -> None:
        """Rejects a teacher whose classes, or their order, differ from the data set's."""
        main, path = self.data.main, self.config.teacher
        if not main.num_classes:
            return
        if teacher.num_classes != main.num_classes:
            raise RunError(
                f"`teacher` must have the {main.num_classes} classes of {main.name}. "
                f"Received: teacher={path}, with {teacher.num_classes}"
            )
        pairs = enumerate(zip(teacher.class_names, main.class_names, strict=False))
        first = next((k for k, (theirs, ours) in pairs if theirs != ours), None)
        if first is not None:
            theirs, ours = (_shown(x, first) for x in (teacher.class_names, main.class_names))
            raise RunError(
                f"`teacher` must have the classes of {main.name} in the same order: starting with "
                f"number {first}, {ours}. Received: teacher={path}, with {theirs}. Train a teacher "
                "on these classes, or correct its labels.txt if that is wrong."
            )
        if not teacher.class_names:
            logging.warning(
                "There is no labels.txt with the class names of the teacher %s: only the number of "
                "classes, %d, was compared with %s.",
                path,
                teacher.num_classes,
                main.name,
            )

    def reuse(self, built):
        if built.teacher.models:  # a teacher from outside the run is kept
            weights.load(self.config.teacher, built.teacher.models)

    def batches(self, context, start_step):
        batches, size = Batches(self.config, context), self.config.train_batch_size
        images = batches.crops(self.train_split, size, start_step).map(lambda image, _: image)
        if self.labelled_split is None:
            return images
        size = labelled_batch_size(self.config, self.labelled_split, self.replicas)
        return tf.data.Dataset.zip(images, batches.crops(self.labelled_split, size, start_step))

    def evaluate(self, built):
        if not has_labels(self.eval_split):
            return evaluation.evaluate(self, built.stage)
        classes = built.teacher.num_classes
        metrics, student = evaluation.evaluate_classifier(
            self, built, built.networks.image_classifier, classes
        )
        of_teacher, teacher = evaluation.evaluate_classifier(
            self, built, lambda: built.teacher.predict, classes, name="teacher"
        )
        evaluation.write_calibration(self, {"teacher": teacher, "student": student})
        return {
            **metrics,
            "teacher_label_top_1_accuracy": of_teacher["label_top_1_accuracy"],
            "teacher_expected_calibration_error": of_teacher["expected_calibration_error"],
        }
