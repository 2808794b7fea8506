"""Pretraining: SimCLRv2's first stage, with online classifier, memory and collapse alarm."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from absl import logging
from etils import epy

from simclrv2_tf.experiments import duplicates, evaluation, samples, validation
from simclrv2_tf.experiments.data import Batches, has_labels, without_labels
from simclrv2_tf.experiments.directory import RunError
from simclrv2_tf.experiments.stage import Built, StageRun

with epy.lazy_imports():
    import tensorflow as tf

    from simclrv2_tf import memory, objectives, report, stages
    from simclrv2_tf.metrics import representations
    from simclrv2_tf.training import callbacks, divergence, loop

if TYPE_CHECKING:
    from simclrv2_tf.networks import Networks

# Two views of each: enough to measure how many dimensions they fill.
_JUDGED_IMAGES = 256
_DRAWN_IMAGES = 12


@dataclasses.dataclass(frozen=True)
class _Built(Built):
    """Adds the measurement of representations, traced once for training and evaluation."""

    measure: Callable[[], dict[str, float]] | None = None


class Pretraining(StageRun):
    """Trains encoder and projection head without labels; evaluates its online classifier."""

    train_mode = "pretrain"
    title = "pretraining, online classifier"
    passes = 6
    summary = "encoder and projection head, without labels."
    published = {"pretrain": lambda config, fraction: {}}
    labelled = False

    def open(self):
        config = self.config
        split = self.data.unlabelled_images(config)
        if config.hold_labels_back:
            split = without_labels(split)
        split, self.validation_split = validation.parts(self, split)
        micro, batch = config.micro_batch_size, config.train_batch_size
        if micro and batch % (micro * self.replicas):
            raise RunError(
                f"`micro_batch_size` must divide the part of the batch of each of {self.replicas} "
                f"replicas. Received: micro_batch_size={micro}, train_batch_size={batch}"
            )
        if config.memory_size > split.num_examples:
            logging.warning(
                "`memory_size` (%d) is larger than the data set (%d images): an image's own past "
                "embeddings will be among its negatives.",
                config.memory_size,
                split.num_examples,
            )
        # A classifier with one class is always right.
        has_probe = (
            config.lineareval_while_pretraining
            and has_labels(split)
            and self.data.main.num_classes > 1
        )
        return split, split if has_probe else None

    @property
    def method(self):
        return f"pretraining without labels, objective {self.config.objective}"

    @property
    def images_name(self):
        return self.config.unlabelled_dataset or self.config.dataset

    @property
    def labels_note(self):
        only = " (online classifier)" if self.labelled_split else ""
        return super().labels_note + only

    def build(self, **options):
        config = self.config
        networks = self.build_networks(self.data.main.num_classes if self.labelled_split else 0)
        width = networks.head.outputs[-1].shape[-1]
        objective = objectives.make(config, width)
        momentum = self._momentum(networks) if config.has_momentum_network else None
        queue = memory.Queue(config.memory_size, width) if config.memory_size else None
        stage = stages.Pretrainer(
            networks.encoder,
            networks.head,
            objective,
            networks.classifier,
            config.ft_proj_selector,
            config.micro_batch_size or None,
            momentum,
            queue,
            objective.momentum_views,
            networks.predictor,
            **options,
        )
        parts = {"objective": objective, "ema": momentum, "queue": queue}
        measure = self._measurement(stage)
        trained = networks
        if config.eval_ema:
            trained = dataclasses.replace(networks, encoder=momentum.encoder, head=momentum.head)
        return _Built(
            networks,
            stage,
            trained=trained,
            state={
                f"{part}/{name}": variable
                for part, holder in parts.items()
                if holder is not None
                for name, variable in holder.variables.items()
            },
            start=momentum.begin if momentum else None,
            at_peak=None if objective.predictor_rate_decays else networks.predictor,
            callbacks=(callbacks.Health(measure, config.train_summary_steps, self._settled_after),),
            measure=measure,
        )

    def build_networks(self, num_classes, **more):
        objective = objectives.OBJECTIVES[self.config.objective]
        if objective.takes_targets:
            given = self.config.predictor_hidden_dim
            more["predictor_width"] = lambda *widths: given or objective.predictor_width(*widths)
        return super().build_networks(num_classes, **more)

    def _momentum(self, networks: Networks) -> memory.MomentumNetwork:
        average = super().build_networks(0)
        decay = self.config.ema_decay
        if self.config.ema_schedule == "cosine":
            decay = memory.cosine_decay_to_1(decay, self.total_steps)
        return memory.MomentumNetwork(
            (networks.encoder, networks.head), (average.encoder, average.head), decay
        )

    @property
    def _settled_after(self) -> int:
        return representations.settled_after(self.config.batch_norm_decay)

    def _measurement(self, stage: stages.Pretrainer) -> Callable[[], dict[str, float]]:
        """Returns a function that measures representations of a fixed batch of training images."""
        most = min(self.config.train_batch_size, _JUDGED_IMAGES)
        batch = max(most // self.replicas, 1) * self.replicas
        gathered = None

        def measure():
            nonlocal gathered
            if gathered is None:  # not in the strategy's scope, in which a stage is built
                gathered = loop.gather(
                    stage.representations,
                    self.strategy,
                    lambda context: Batches(self.config, context).views(self.train_split, batch),
                )
            try:
                return representations.measure(*gathered())
            except FloatingPointError as error:
                raise divergence.NonFiniteError(str(error)) from None

        return measure

    def batches(self, context, start_step):
        size = self.config.train_batch_size
        return Batches(self.config, context).views(self.train_split, size, start_step)

    def before_training(self):
        if not self.seams.exports:
            return
        count = min(_DRAWN_IMAGES, self.train_split.num_examples)
        batches = Batches(self.config, tf.distribute.InputContext())
        view1, view2, originals = batches.first_views(self.train_split, count)
        path = self.directory.path / "views.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        images = view1.numpy(), view2.numpy(), count, originals.numpy()
        settings = self.config.views_in_words(self.config.channels)
        report.save_figure(report.views_figure(*images, settings), path)
        picture = tf.io.decode_png(path.read_bytes())
        logs = self.directory.logs("train")
        with tf.summary.create_file_writer(str(logs)).as_default():
            tf.summary.image("views", picture[None], step=0)

    def evaluate(self, built):
        stage, trained, measure = built.stage, built.trained, built.measure
        step = int(stage.optimizer.iterations.numpy())
        if self.config.eval_ema:
            with self.strategy.scope():
                stage = stages.Pretrainer(
                    trained.encoder,
                    trained.head,
                    stage.objective,
                    momentum=stage.momentum,
                    predictor=stage.predictor,
                )
            measure = self._measurement(stage)
        numbers = measure()
        what = representations.collapsed(numbers, settled=step >= self._settled_after)
        if self.is_chief and what:
            print(f"COLLAPSED: {what}.", flush=True)
        samples.write(self, trained.encoder)
        if self.is_chief and self.seams.exports:
            duplicates.write(self)
        if trained.classifier is None or not has_labels(self.eval_split):
            return {**self._evaluate_contrast(stage), **numbers}
        metrics, _ = evaluation.evaluate_classifier(
            self, built, trained.image_classifier, self.data.main.num_classes
        )
        return {**metrics, **numbers}

    def _evaluate_contrast(self, stage: stages.Pretrainer) -> dict[str, float]:
        """Returns, without labels, the contrastive metrics on views of the evaluation split."""
        config = self.config
        batch = min(config.train_batch_size, self.eval_split.num_examples)
        parts = self.replicas * (config.micro_batch_size or 1)
        batch -= batch % (parts if batch >= parts else self.replicas)
        if not batch:
            raise RunError(
                f"An evaluation on {self.replicas} replicas needs at least as many images. "
                "Received: "
                f"{self.eval_split.num_examples} in {self.eval_split.name}"
            )
        steps = self.eval_split.num_examples // batch
        logs = loop.evaluate(
            stage,
            self.strategy,
            lambda context: Batches(config, context).views(self.eval_split, batch),
            steps=min(config.eval_steps or steps, steps),
            callbacks=self.console.evaluation(),
            verbose=self.console.verbose,
        )
        return {name: logs[name] for name in ("contrast_loss", *stage.objective.metric_names)}
