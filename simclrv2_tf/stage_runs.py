"""One stage of training in its run directory: data, networks, training, evaluation, export.

    model_dir/
      config.json              every option, as run
      start.json               which weights, and which teacher, it began with
      labelled_examples.txt    the examples whose labels it uses, where these are a subset
      checkpoints/             weights, optimizer and step, by variable path; the newest are kept
      logs/                    TensorBoard
      history.csv              the metrics of each epoch, and its seconds
      views.png                augmented views, as pretraining sees them
      encoder.keras            (and head, classifier) the final networks, as Keras loads them
      image_classifier.keras   a labelled stage's whole way from images to logits
      labels.txt, inputs.json  class names, and the side of the images
      hub/STEP/                the SavedModel, with its model card; other formats: `artifacts`
      result.json              the evaluation
      calibration.json         how far the classifier's confidence can be trusted, with a figure

The same command run again goes on where the last checkpoint is, and does nothing twice.
"""

from __future__ import annotations

import abc
import dataclasses
import json
from collections.abc import Callable, Mapping

import keras
import tensorflow as tf
from absl import logging
from etils import epath

from simclrv2_tf import (
    datasets,
    distribute,
    health,
    label_subset,
    loop,
    objectives,
    optimizers,
    report,
    resnet,
    stages,
    weights,
)
from simclrv2_tf.callbacks import Health, HistoryFile, SaveCheckpoints, Summaries
from simclrv2_tf.config import Config
from simclrv2_tf.export import Artifacts, check_formats
from simclrv2_tf.export.model_card import model_card, public
from simclrv2_tf.memory import MomentumNetwork, Queue
from simclrv2_tf.networks import Networks, build_networks
from simclrv2_tf.run_data import Data
from simclrv2_tf.run_directory import RunError, check_same_run, claim, to_json, write
from simclrv2_tf.weights import teachers

# More epochs than this are taken together where they would be shorter than so many steps.
_MOST_SHORT_EPOCHS, _SHORT_EPOCH = 50, 20
# Two views of each: enough to tell how many dimensions they fill.
_HEALTH_IMAGES = 256


def make_run(
    config: Config, data: Data, strategy: tf.distribute.Strategy, caps_batch: bool = False
) -> StageRun:
    """The run of the one stage that `config.train_mode` names.

    Args:
        caps_batch: Whether a batch larger than the label subset is made smaller, not refused.

    Raises:
        DatasetError, RunError: the options do not fit the data, the devices or the directory.
    """
    kind = {"pretrain": Pretraining, "distill": Distillation}.get(config.train_mode, Classification)
    return kind(config, data, strategy, caps_batch)


class StageRun(abc.ABC):
    """One stage in its run directory. Making it checks everything that can be checked first.

    Args:
        config: The stage's options; its `train_mode` is that of one stage.
        data: The data sets.
        strategy: Where it runs.
        caps_batch: As in `make_run`.

    Attributes:
        train_split: The examples that its epochs count.
        labelled_split: The examples whose labels its training uses; None: it uses none.
    """

    train_split: datasets.Split
    labelled_split: datasets.Split | None

    def __init__(
        self,
        config: Config,
        data: Data,
        strategy: tf.distribute.Strategy,
        caps_batch: bool = False,
    ):
        self.data = data
        self.strategy = strategy
        # Reading variables and evaluating takes all workers; files are the chief's alone.
        self.is_chief = distribute.is_chief(strategy)
        self.directory = epath.Path(config.model_dir)
        if not config.eval_split and not data.main.default_eval_split:
            logging.warning(
                "%s holds no images out: evaluation is on the training images. `eval_split` and "
                "`train_split` can cut it, as in --train_split='train[:80%%]'.",
                data.main.name,
            )
        self.eval_split = data.main.split(
            config.eval_split or data.main.default_eval_split or config.train_split
        )
        self.eval_labelled = _has_labels(self.eval_split)
        self.config = config
        self._open_training_data()
        examples, replicas = self.train_split.num_examples, strategy.num_replicas_in_sync
        batch = config.train_batch_size
        if caps_batch and batch > examples:
            batch = max(examples // replicas, 1) * replicas
            self.config = config = dataclasses.replace(config, train_batch_size=batch)
        for name, size in (
            ("train_batch_size", batch),
            ("eval_batch_size", config.eval_batch_size),
        ):
            if size % replicas:
                raise RunError(
                    f"`{name}` must be a multiple of the {replicas} replicas. "
                    f"Received: {name}={size}"
                )
        datasets.check_batch_size(self.train_split, batch, "train_batch_size")
        self.total_steps = config.train_steps or optimizers.total_steps(
            examples, config.train_epochs, batch
        )
        self.epochs = config.train_epochs
        if config.train_steps:
            self.epochs = max(1, round(config.train_steps * batch / examples))
        # Epochs over few labels would be hundreds of lines, and of checkpoints, in a minute.
        self.epochs = min(self.epochs, max(_MOST_SHORT_EPOCHS, self.total_steps // _SHORT_EPOCH))
        self.schedule = optimizers.WarmupCosine(
            optimizers.peak_learning_rate(
                config.learning_rate, batch, config.learning_rate_scaling
            ),
            optimizers.warmup_steps(examples, config.warmup_epochs, batch),
            self.total_steps,
        )
        check_formats(config.export_formats or ())
        check_same_run(self.directory, config)

    # --- What a stage is ----------------------------------------------------------------------

    @abc.abstractmethod
    def _open_training_data(self) -> None:
        """Sets `train_split` and `labelled_split`; refuses data that cannot be trained on."""

    @abc.abstractmethod
    def _networks(self) -> Networks:
        """The networks, at random weights, and what else the stage needs to be made."""

    @abc.abstractmethod
    def _stage(self, networks: Networks, **options) -> stages.Stage:
        """The stage, not compiled. What is frozen is frozen here."""

    @abc.abstractmethod
    def _batches(self, context, start_step: int) -> tf.data.Dataset:
        """The endless training batches of one input pipeline, from `start_step` on."""

    @abc.abstractmethod
    def _evaluate(self, networks: Networks, stage: stages.Stage) -> dict[str, float]:
        """The metrics of the trained networks on the evaluation split."""

    # --- A run, whatever the stage ------------------------------------------------------------

    @property
    def encoder_description(self) -> str:
        """Such as "ResNet-50 0.25x SK"; with basic blocks `sk_ratio` only makes a ResNet-D."""
        config = self.config
        selective = " SK" if config.resnet_depth >= 50 else " D"
        return (
            f"ResNet-{config.resnet_depth} {config.width_multiplier:g}x"
            + selective * (config.sk_ratio > 0)
            + " SE" * (config.se_ratio > 0)
        )

    def execute(self) -> dict:
        """Trains, exports and evaluates, as far as `mode` says; returns the result."""
        config = self.config
        print(
            f"\n{config.train_mode}: {self.encoder_description}, {self.train_split.num_examples:,} "
            f"images{self._labels_note()}, {self.total_steps:,} steps of "
            f"{config.train_batch_size}, in {self.directory}",
            flush=True,
        )
        finished = self._finished()
        self._check_workers_agree("have finished it (1) or not (0)", int(finished is not None))
        if finished is not None:
            print("Finished before; nothing to do.", flush=True)
            return finished
        result = self._execute()
        distribute.barrier(self.strategy)  # the next stage reads what the chief has written
        return result

    def _execute(self) -> dict:
        config = self.config
        with self.strategy.scope():
            networks = self._networks()
            stage = self._compiled_stage(networks)
        store = weights.Checkpoints(
            str(self.directory / "checkpoints"),
            self._state(networks, stage),
            keep=config.keep_checkpoint_max,
            writes=self.is_chief,
        )
        restored = store.restore()
        step = int(stage.optimizer.iterations.numpy())
        self._check_workers_agree("are at step", step)
        trained = self._trained(networks)
        if config.mode == "eval":
            if not restored:
                raise RunError(
                    f"mode=eval needs a checkpoint, and {self.directory} has none. Train first."
                )
        else:
            begin = self._begin(networks, stage, restored)
            self._train(stage, store, begin)
            self._export(trained, anew=begin < self.total_steps)
        if config.mode == "train":
            if self.is_chief:
                self._finish_export({})
            return {}
        step = int(stage.optimizer.iterations.numpy())
        result = self._evaluate(trained, stage)
        result |= {"global_step": step, "encoder_parameters": networks.encoder.count_params()}
        if self.is_chief:
            self._summarize(result, step)
            write(self.directory / self._result_name, to_json(result))
            if self._artifacts.module.exists():
                self._finish_export(result)
        print("  ".join(f"{name} {_shown(value)}" for name, value in result.items()), flush=True)
        return result

    def _check_workers_agree(self, what: str, value: int) -> None:
        values = distribute.of_all_replicas(self.strategy, value)
        if len(set(values)) > 1:
            raise RunError(
                "`model_dir` must be on a disk that all workers share. Received: "
                f"{self.directory}, by which the workers {what}: {values}"
            )

    def _state(self, networks, stage) -> dict[str, keras.Variable]:
        """All that a checkpoint has to hold, by name."""
        return weights.named(networks.weights, stage.optimizer)

    def _trained(self, networks: Networks) -> Networks:
        """Those that are evaluated and exported."""
        return networks

    def _callbacks(self, stage) -> list[keras.callbacks.Callback]:
        """Those of this stage, on every worker; they come before those that write."""
        return []

    @property
    def num_labels(self) -> int:
        """How many labels its training uses."""
        return self.labelled_split.num_examples if self.labelled_split else 0

    def _labels_note(self) -> str:
        return f", {self.num_labels:,} labels" if self.num_labels else ", no labels"

    @property
    def _result_name(self) -> str:
        return f"result_{self.config.eval_name}.json" if self.config.eval_name else "result.json"

    def _finished(self) -> dict | None:
        """The result of this very run, if it has ended before."""
        options, result = self.directory / "config.json", self.directory / self._result_name
        if self.config.mode != "train_then_eval" or not (options.exists() and result.exists()):
            return None
        if options.read_text() != self.config.to_json() or self._began_otherwise():
            return None
        if not self._artifacts.finished():
            return None
        values = json.loads(result.read_text())
        return values if values.get("global_step") == self.total_steps else None

    def _compiled_stage(self, networks) -> stages.Stage:
        config = self.config
        optimizer = optimizers.make_optimizer(
            config.optimizer, self.schedule, config.momentum, config.weight_decay
        )

        def penalty(variables):
            decayed = optimizers.l2_variables(optimizer, variables)
            return config.weight_decay * optimizers.l2_loss(decayed)

        stage = self._stage(
            networks, penalty=penalty if config.weight_decay else None, name=config.train_mode
        )
        stage.compile(optimizer=optimizer, jit_compile=False)
        optimizer.build(stage.trainable_variables)
        return stage

    def _start(self) -> dict:
        """What the run begins with, as `start.json` has it."""
        return {"weights": weights.fingerprint(self.config.checkpoint)}

    def _began_otherwise(self) -> bool:
        start = self.directory / "start.json"
        return start.exists() and start.read_text() != to_json(self._start())

    def _begin(self, networks, stage, restored: bool) -> int:
        """Loads the starting weights and takes the directory; returns the step to begin at."""
        config = self.config
        step = 0
        if restored:
            step = int(stage.optimizer.iterations.numpy())
            if self._began_otherwise():
                given = {"checkpoint": config.checkpoint, "teacher": config.teacher}
                flags = ", ".join(f"--{name}={path}" for name, path in given.items() if path)
                raise RunError(
                    f"{self.directory} holds a run that began with other weights than "
                    f"{flags or 'random ones'} has now. Choose another --model_dir, or remove "
                    "that folder to begin again."
                )
            print(f"Resuming at step {step:,} of {self.total_steps:,}.", flush=True)
        elif config.checkpoint:
            sources = [networks.encoder] + [networks.head] * (networks.head is not None)
            weights.load(config.checkpoint, sources)
            print(f"Starting from the weights in {config.checkpoint}.", flush=True)
        elif config.train_mode in ("finetune", "linear_eval"):
            print("Starting from random weights: no `checkpoint` is given.", flush=True)
        subset, path = self._label_subset(), self.directory / "labelled_examples.txt"
        if subset and path.exists() and label_subset.read(path) != subset:
            raise RunError(
                f"{path} lists other examples than the label subset has now: the data has changed. "
                "Choose another --model_dir; nothing there was changed."
            )
        if self.is_chief:
            self._claim(subset, path)
        return step

    def _claim(self, subset: tuple[str, ...], subset_path: epath.Path) -> None:
        """Takes the directory, and writes there what the run begins with."""
        config = self.config
        options, result = self.directory / "config.json", self.directory / self._result_name
        if options.exists() and result.exists():
            earlier = Config.from_json(options.read_text())
            if dataclasses.replace(earlier, export_formats=config.export_formats) != config:
                result.unlink()  # of another evaluation, until this one has ended
        claim(self.directory, config)
        write(self.directory / "start.json", to_json(self._start()))
        if subset:
            label_subset.write(subset_path, subset)

    def _label_subset(self) -> tuple[str, ...]:
        """The ids of the examples that have labels; none where these are not a subset."""
        config = self.config
        if self.labelled_split is None or not (config.label_fraction or config.labels_per_class):
            return ()
        return tuple(self.labelled_split.labels()[0].tolist())

    def _train(self, stage, store, begin: int) -> None:
        config = self.config
        if begin >= self.total_steps:
            return
        callbacks = [SaveCheckpoints(store, config.checkpoint_steps, config.checkpoint_epochs)]
        if self.is_chief:
            callbacks = [
                Summaries(self.directory / "logs" / "train", config.train_summary_steps),
                HistoryFile(self.directory / "history.csv"),
                *callbacks,
            ]
        loop.train(
            stage,
            self.strategy,
            lambda context: self._batches(context, begin),
            schedule=self.schedule,
            total_steps=self.total_steps,
            epochs=self.epochs,
            start_step=begin,
            steps_per_execution=config.steps_per_execution or (16 if _accelerated() else 1),
            callbacks=[*self._callbacks(stage), *callbacks],
            verbose=_verbosity(self.is_chief),
        )
        for data in filter(None, (self.data.main, self.data.unlabelled)):
            if data.num_skipped:
                print(f"{data.num_skipped:,} unreadable image(s) were skipped.", flush=True)

    def _without_idle_head(self, networks: Networks) -> Networks:
        """Keeps a head that has no part in the stage only where there is one to pass on."""
        if self.config.ft_proj_selector == 0:
            source = weights.latest(str(self.directory)) or self.config.checkpoint
            if not source or not weights.fits(source, [networks.head]):
                return dataclasses.replace(networks, head=None)
        return networks

    def _pipeline(self, context, batch_size) -> dict:
        return dict(
            batch_size=batch_size // context.num_input_pipelines,
            image_size=self.config.image_size,
            seed=self.config.seed,
            min_crop_area=self.config.min_crop_area,
            cache=self.config.cache_dataset,
            shard=(context.input_pipeline_id, context.num_input_pipelines),
        )

    def _views(self, context, split, batch_size, start_step=0) -> tf.data.Dataset:
        """Pairs of views, with labels."""
        config = self.config
        batches = datasets.pretraining_batches(
            split,
            start_step=start_step,
            color_jitter_strength=config.color_jitter_strength,
            color_jitter_version=config.color_jitter_version,
            use_blur=config.use_blur,
            **self._pipeline(context, batch_size),
        )
        return _per_replica(batches, context, batch_size)

    def _crops(self, context, split, batch_size, start_step=0) -> tf.data.Dataset:
        """Images as the stages after pretraining see them, with labels."""
        config = self.config
        views = {}
        if config.labelled_views == "pretrain":
            views = dict(
                color_jitter_strength=config.color_jitter_strength,
                color_jitter_version=config.color_jitter_version,
                use_blur=config.use_blur,
            )
        batches = datasets.training_batches(
            split, start_step=start_step, **views, **self._pipeline(context, batch_size)
        )
        return _per_replica(batches, context, batch_size)

    def _run_evaluation(self, stage: stages.Stage) -> dict[str, float]:
        """The metrics of `stage.test_step` over the evaluation split."""
        batch = self.config.eval_batch_size
        steps = -(-self.eval_split.num_examples // batch)
        return loop.evaluate(
            stage,
            self.strategy,
            lambda context: _per_replica(
                datasets.evaluation_batches(
                    self.eval_split,
                    batch_size=batch // context.num_input_pipelines,
                    image_size=self.config.image_size,
                    shard=(context.input_pipeline_id, context.num_input_pipelines),
                ),
                context,
                batch,
            ),
            steps=min(self.config.eval_steps or steps, steps),
            verbose=_verbosity(self.is_chief),
        )

    def _evaluate_classifier(self, predict, num_classes: int) -> tuple[dict, dict]:
        """Accuracy and calibration of `predict`: the metrics, and what `calibration.json` holds."""
        with self.strategy.scope():
            evaluation = stages.Evaluation(predict, num_classes)
        logs = self._run_evaluation(evaluation)
        metrics = {
            "label_top_1_accuracy": logs["top_1_accuracy"],
            "label_top_5_accuracy": logs["top_5_accuracy"],
            "loss": logs["loss"],
            "expected_calibration_error": logs["expected_calibration_error"],
        }
        calibration = {
            "top1": logs["top_1_accuracy"],
            "expected_calibration_error": logs["expected_calibration_error"],
            "bins": evaluation.calibration.bins(),
        }
        return metrics, calibration

    def _write_calibration(self, calibration: dict[str, dict]) -> None:
        if not self.is_chief:
            return
        name = f"_{self.config.eval_name}" if self.config.eval_name else ""
        write(self.directory / f"calibration{name}.json", to_json(calibration))
        figure = report.reliability_figure(calibration)
        report.save_figure(figure, self.directory / f"calibration{name}.png")

    def _summarize(self, metrics: dict[str, float], step: int) -> None:
        folder = "eval" + (f"_{self.config.eval_name}" if self.config.eval_name else "")
        with tf.summary.create_file_writer(str(self.directory / "logs" / folder)).as_default():
            for name, value in metrics.items():
                tf.summary.scalar(name, value, step=step)

    @property
    def _artifacts(self) -> Artifacts:
        config = self.config
        return Artifacts(
            self.directory,
            str(self.total_steps),
            labelled=config.train_mode != "pretrain",
            formats=config.export_formats or (),
        )

    def _export(self, networks: Networks, anew: bool) -> None:
        """Writes the networks' files; not again unless `anew`, or one of them is missing."""
        config = self.config
        if not anew and self._artifacts.written(networks):
            return
        # Copies of their own: float32, and without the strategy's distributed variables.
        keras.config.set_dtype_policy("float32")
        copies = _build(config, networks.classifier.output_shape[-1] if networks.classifier else 0)
        keras.config.set_dtype_policy(config.precision)
        if networks.head is None:
            copies = dataclasses.replace(copies, head=None)
        for name, copy in copies.models.items():
            copy.set_weights([v.numpy() for v in networks.models[name].weights])
        if not self.is_chief:
            return
        names = self.data.main.class_names if copies.classifier else ()
        self._artifacts.write(copies, config.image_size, names, anew)
        print(f"SavedModel in {self._artifacts.module}", flush=True)

    def _finish_export(self, result: Mapping[str, float]) -> None:
        """Writes what goes with the SavedModel once the networks are evaluated, or are not."""
        config, artifacts = self.config, self._artifacts
        # An evaluation of another name is of something else than what was exported.
        card = None if config.eval_name else self._card(result)
        artifacts.finish(card, config.image_size)
        artifacts.remove_older(config.keep_hub_module_max)

    def _card(self, result: Mapping[str, float]) -> str:
        config, main, labelled = self.config, self.data.main, self._artifacts.labelled
        name, teacher = public(main.name), public(config.teacher or "")
        method = {
            "pretrain": f"pretraining without labels, objective {config.objective}",
            "finetune": f"fine-tuning from layer {config.ft_proj_selector} of the head",
            "linear_eval": "a linear classifier on the frozen encoder",
            "supervised": "supervised training from random weights",
            "distill": f"distillation of {teacher} at temperature {config.temperature:g}",
        }[config.train_mode]
        unlabelled = config.train_mode in ("pretrain", "distill") and config.unlabelled_dataset
        images = self.eval_split.num_examples
        if config.eval_steps:
            images = min(images, config.eval_steps * config.eval_batch_size)
        return model_card(
            title=f"{self.encoder_description}: {config.train_mode} on {name}",
            about={
                "Method": f"SimCLRv2 (arXiv 2006.10029): {method}",
                "Network": f"{self.encoder_description}, images of {config.image_size} pixels",
                "Began with": public(config.checkpoint or "random weights"),
                "Images": f"{public(unlabelled or config.dataset)}, "
                f"{self.train_split.num_examples:,} to train with",
                "Labels": self._labels_note().removeprefix(", "),
                "Recipe": f"{self.total_steps:,} steps of {config.train_batch_size} images, "
                f"{config.optimizer}, learning rate {self.schedule.peak:.4g} at its peak, weight "
                f"decay {config.weight_decay:g}, seed {config.seed}; all options are in the run's "
                "config.json",
            },
            measured=result,
            measured_on=f"`{self.eval_split.name}` of {name} ({images:,} images)",
            licence="That of the weights is for whoever trained them to choose, within what the "
            "images' own licence allows. The code, simclrv2_tf, is under Apache-2.0.",
            image_size=config.image_size,
            class_names=main.class_names if labelled else (),
            output="logits" if labelled else "representation",
        )


class Pretraining(StageRun):
    """SimCLRv2's first stage; its online classifier, if any, is evaluated."""

    def _open_training_data(self):
        self._health_of: dict[stages.Stage, Callable[[], dict[str, float]]] = {}
        self.train_split = self.data.unlabelled_images(self.config)
        if self.config.hold_labels_back:
            self.train_split = self.train_split.unlabelled()
        self.probes = self.config.lineareval_while_pretraining and _has_labels(self.train_split)
        self.labelled_split = self.train_split if self.probes else None
        replicas = self.strategy.num_replicas_in_sync
        micro, batch = self.config.micro_batch_size, self.config.train_batch_size
        if micro and batch % (micro * replicas):
            raise RunError(
                f"`micro_batch_size` must divide the part of the batch of each of {replicas} "
                f"replicas. Received: micro_batch_size={micro}, train_batch_size={batch}"
            )

        if self.config.memory_size > self.train_split.num_examples:
            logging.warning(
                "`memory_size` (%d) is larger than the data set (%d images): past embeddings of an "
                "image will be among its own negatives.",
                self.config.memory_size,
                self.train_split.num_examples,
            )

    def _labels_note(self):
        return super()._labels_note() + " (for the online classifier only)" * self.probes

    def _networks(self):
        config = self.config
        networks = _build(config, self.data.main.num_classes if self.probes else 0)
        self.momentum = None
        if config.has_momentum_network:
            average = _build(config, 0)
            self.momentum = MomentumNetwork(
                (networks.encoder, networks.head), (average.encoder, average.head), config.ema_decay
            )
        return networks

    def _stage(self, networks, **options):
        config = self.config
        width = networks.head.outputs[-1].shape[-1]
        self.queue = Queue(config.memory_size, width) if config.memory_size else None
        return stages.Pretrainer(
            networks.encoder,
            networks.head,
            _objective(config, width),
            networks.classifier,
            config.ft_proj_selector,
            config.micro_batch_size or None,
            self.momentum,
            self.queue,
            config.tico_momentum_views,
            **options,
        )

    def _state(self, networks, stage):
        more = {"objective": stage.objective.variables}
        if self.momentum is not None:
            more["ema"] = self.momentum.variables
        if self.queue is not None:
            more["queue"] = self.queue.variables
        return super()._state(networks, stage) | {
            f"{part}/{name}": v for part, variables in more.items() for name, v in variables.items()
        }

    def _trained(self, networks):
        if not self.config.eval_ema:
            return networks
        return dataclasses.replace(networks, encoder=self.momentum.encoder, head=self.momentum.head)

    def _begin(self, networks, stage, restored):
        begin = super()._begin(networks, stage, restored)
        if self.momentum is not None and not restored:
            self.momentum.begin()
        return begin

    def _callbacks(self, stage):
        settled_after = health.settled_after(self.config.batch_norm_decay)
        return [Health(self._health(stage), self.config.train_summary_steps, settled_after)]

    def _health(self, stage) -> Callable[[], dict[str, float]]:
        """Gives `health.measure` of a fixed batch of training images, as `stage` now sees them."""
        if stage in self._health_of:  # traced for training, called once more after it
            return self._health_of[stage]
        replicas = self.strategy.num_replicas_in_sync
        most = min(self.config.train_batch_size, _HEALTH_IMAGES)
        batch = max(most // replicas, 1) * replicas
        representations = loop.gather(
            stage.representations,
            self.strategy,
            lambda context: self._views(context, self.train_split, batch),
        )

        def measure():
            try:
                return health.measure(*representations())
            except FloatingPointError as error:
                raise loop.NonFiniteError(
                    f"{error} No checkpoint of it was made. Lower the learning rate, lengthen the "
                    "warm-up or use float32."
                ) from None

        self._health_of[stage] = measure
        return measure

    def _batches(self, context, start_step):
        return self._views(context, self.train_split, self.config.train_batch_size, start_step)

    def _train(self, stage, store, begin):
        if begin < self.total_steps and self.is_chief:
            self._draw_views()
        super()._train(stage, store, begin)

    def _draw_views(self) -> None:
        count = min(12, self.train_split.num_examples)
        (view1, view2), _ = next(
            iter(self._views(tf.distribute.InputContext(), self.train_split, count))
        )
        figure = report.views_figure(view1.numpy(), view2.numpy())
        report.save_figure(figure, self.directory / "views.png")
        picture = tf.io.decode_png((self.directory / "views.png").read_bytes())
        with tf.summary.create_file_writer(str(self.directory / "logs" / "train")).as_default():
            tf.summary.image("views", picture[None], step=0)

    def _evaluate(self, networks, stage):
        step = int(stage.optimizer.iterations.numpy())
        if self.config.eval_ema:
            with self.strategy.scope():
                stage = stages.Pretrainer(networks.encoder, networks.head, stage.objective)
        numbers = self._health(stage)()
        settled = step >= health.settled_after(self.config.batch_norm_decay)
        if self.is_chief and (what := health.collapsed(numbers, settled)):
            print(f"COLLAPSED: {what}.", flush=True)
        if networks.classifier is None or not self.eval_labelled:
            return {**self._evaluate_contrast(stage), **numbers}
        classifier = networks.image_classifier()
        metrics, _ = self._evaluate_classifier(classifier, self.data.main.num_classes)
        return {**metrics, **numbers}

    def _evaluate_contrast(self, stage) -> dict[str, float]:
        """Without labels: the contrastive metrics on views of the evaluation split."""
        config = self.config
        replicas = self.strategy.num_replicas_in_sync
        batch = min(config.train_batch_size, self.eval_split.num_examples)
        parts = replicas * (config.micro_batch_size or 1)
        batch -= batch % (parts if batch >= parts else replicas)
        if not batch:
            raise RunError(
                f"An evaluation on {replicas} replicas needs as many images. Received: "
                f"{self.eval_split.num_examples} in {self.eval_split.name}"
            )
        steps = self.eval_split.num_examples // batch
        logs = loop.evaluate(
            stage,
            self.strategy,
            lambda context: self._views(context, self.eval_split, batch),
            steps=min(config.eval_steps or steps, steps),
            verbose=_verbosity(self.is_chief),
        )
        return {name: logs[name] for name in ("contrast_loss", *stage.objective.metric_names)}


class Classification(StageRun):
    """Linear evaluation, fine-tuning, and supervised training from random weights."""

    def _open_training_data(self):
        self.train_split = self.labelled_split = self.data.labelled_images(self.config)
        if not (_has_labels(self.train_split) and self.eval_labelled):
            raise RunError(
                f"train_mode={self.config.train_mode} needs labels, and {self.data.main.name} has "
                f"none in {self.train_split.name} or {self.eval_split.name}. Put the images in a "
                "folder for each class, or use --train_mode=pretrain."
            )

    def _networks(self):
        return self._without_idle_head(_build(self.config, self.data.main.num_classes))

    def _stage(self, networks, **options):
        linear = self.config.train_mode == "linear_eval"
        resnet.freeze(networks.encoder, 4 if linear else self.config.fine_tune_after_block)
        if networks.head is not None:
            networks.head.trainable = not linear
        return stages.Classifier(
            networks.encoder, networks.classifier, networks.head_part, **options
        )

    def _batches(self, context, start_step):
        return self._crops(context, self.train_split, self.config.train_batch_size, start_step)

    def _evaluate(self, networks, stage):
        metrics, calibration = self._evaluate_classifier(
            networks.image_classifier(), self.data.main.num_classes
        )
        self._write_calibration({self.config.train_mode: calibration})
        return metrics


class Distillation(StageRun):
    """SimCLRv2's third stage: a student learns a teacher's class probabilities."""

    teacher: teachers.Teacher

    def _open_training_data(self):
        config = self.config
        # Without labels by construction: the loader does not even read them.
        self.train_split = self.data.unlabelled_images(config).unlabelled()
        self.labelled_split = None
        if config.distill_alpha < 1:
            self.labelled_split = self.data.labelled_images(config)
            if not _has_labels(self.labelled_split):
                raise RunError(
                    "`distill_alpha` must be 1 without labels, and "
                    f"{self.data.main.name} has none in {self.labelled_split.name}. "
                    f"Received: distill_alpha={config.distill_alpha}"
                )
            replicas = self.strategy.num_replicas_in_sync
            self.labelled_batch_size = config.labelled_batch_size or (
                max(min(config.train_batch_size, self.num_labels) // replicas, 1) * replicas
            )
            datasets.check_batch_size(
                self.labelled_split, self.labelled_batch_size, "labelled_batch_size"
            )

    def _start(self):
        return {**super()._start(), "teacher": weights.fingerprint(self.config.teacher)}

    def _networks(self):
        self.teacher = teachers.load(self.config.teacher)
        num_classes = self.data.main.num_classes or self.teacher.num_classes
        if self.teacher.num_classes != num_classes:
            raise RunError(
                f"`teacher` must have the {num_classes} classes of {self.data.main.name}. "
                f"Received: teacher={self.config.teacher}, with {self.teacher.num_classes}"
            )
        return self._without_idle_head(_build(self.config, num_classes))

    def _stage(self, networks, **options):
        config = self.config
        return stages.Distiller(
            networks.encoder,
            networks.classifier,
            self.teacher.predict,
            networks.head_part,
            temperature=config.temperature,
            alpha=config.distill_alpha,
            squared_temperature=config.distill_squared_temperature,
            **options,
        )

    def _batches(self, context, start_step):
        batch = self.config.train_batch_size
        images = self._crops(context, self.train_split, batch, start_step)
        images = images.map(lambda image, _: image)
        if self.labelled_split is None:
            return images
        labelled = self._crops(context, self.labelled_split, self.labelled_batch_size, start_step)
        return tf.data.Dataset.zip(images, labelled)

    def _evaluate(self, networks, stage):
        if not self.eval_labelled:
            return self._run_evaluation(stage)
        num_classes = self.teacher.num_classes
        metrics, student = self._evaluate_classifier(networks.image_classifier(), num_classes)
        of_teacher, teacher = self._evaluate_classifier(self.teacher.predict, num_classes)
        self._write_calibration({"teacher": teacher, "student": student})
        return {
            **metrics,
            "teacher_label_top_1_accuracy": of_teacher["label_top_1_accuracy"],
            "teacher_expected_calibration_error": of_teacher["expected_calibration_error"],
        }


def _build(config: Config, num_classes: int) -> Networks:
    return build_networks(
        config,
        num_classes,
        image_size=config.image_size,
        seed=config.seed,
        zero_init=config.zero_init_logits_layer,
    )


def _objective(config: Config, width: int):
    """The objective of pretraining that `config` names, for embeddings of `width`."""
    vicreg = (config.vicreg_invariance, config.vicreg_variance, config.vicreg_covariance)
    make = {
        "nt_xent": lambda: objectives.NTXent(
            config.temperature, config.hidden_norm, config.chunk_size or None
        ),
        "vicreg": lambda: objectives.VICReg(*vicreg),
        "tico": lambda: objectives.TiCo(width, config.tico_beta, config.tico_rho),
        "vicreg_tico": lambda: objectives.VICRegTiCo(
            width, config.tico_beta, *vicreg, config.hybrid_diagonal, config.hybrid_normalize
        ),
        "barlow_twins": lambda: objectives.BarlowTwins(config.barlow_off_diagonal),
    }
    return make[config.objective]()


def _shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _has_labels(split: datasets.Split) -> bool:
    """Whether the first example has one: some data sets have both labelled and other splits."""
    if not split.labelled:
        return False
    # One record is loaded as it is, since a pipeline of `examples` takes half a second to build.
    first = split.ordered_records((0, 1)).take(1)
    return any(int(split.load(record, replace_unreadable=False)["label"]) >= 0 for record in first)


def _per_replica(batches, context, global_batch) -> tf.data.Dataset:
    """Splits a host's batches, made and augmented whole, among its replicas."""
    if context.num_replicas_in_sync == context.num_input_pipelines:
        return batches
    return batches.rebatch(global_batch // context.num_replicas_in_sync, drop_remainder=True)


def _accelerated() -> bool:
    return any(device.device_type in ("GPU", "TPU") for device in tf.config.list_logical_devices())


def _verbosity(is_chief: bool) -> int:
    if not is_chief:
        return 0
    # A progress bar redraws its line, which makes a file or a pipe unreadable.
    return 1 if keras.utils.is_interactive_logging_enabled() and _is_terminal() else 2


def _is_terminal() -> bool:
    import sys

    return sys.stdout.isatty() or "ipykernel" in sys.modules
