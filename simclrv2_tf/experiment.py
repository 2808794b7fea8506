"""One run after its flags: data, networks, stage, training, evaluation, export, in a run directory.

    model_dir/
      config.json         every option, as run
      start.json          which weights it began with
      checkpoints/        weights, optimizer and step, by variable path; the newest are kept
      logs/               TensorBoard
      history.csv         the metrics of each epoch, and its seconds
      views.png           augmented views, as pretraining sees them
      encoder.keras       (and head, classifier) the final networks, for keras.saving.load_model
      hub/STEP/           the SavedModel
      result.json         the evaluation

The same command run again goes on where the last checkpoint is, and does nothing twice.
"""

from __future__ import annotations

import dataclasses

import keras
import tensorflow as tf
from absl import logging
from etils import epath

from simclrv2_tf import (
    checkpoints,
    datasets,
    distribute,
    heads,
    loop,
    objectives,
    optimizers,
    report,
    resnet,
    stages,
)
from simclrv2_tf.callbacks import HistoryFile, SaveCheckpoints, Summaries, seconds_spent
from simclrv2_tf.config import Config
from simclrv2_tf.export import export
from simclrv2_tf.run_directory import RunError, check_same_run, claim, to_json, write


@dataclasses.dataclass(frozen=True)
class Networks:
    """The networks of a run.

    The classifier is absent where there are no labels, and the head where a classifier reads the
    encoder and the weights it started from have none.
    """

    encoder: keras.Model
    head: keras.Model | None
    classifier: keras.Model | None

    @property
    def models(self) -> dict[str, keras.Model]:
        """Those there are, by name."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: model for name, model in fields.items() if model is not None}

    @property
    def weights(self) -> list[keras.Variable]:
        return [v for model in self.models.values() for v in model.weights]


def build_networks(config: Config, num_classes: int) -> Networks:
    """Builds the networks that `config` describes; without a classifier for 0 classes.

    Initial weights are a function of `config.seed` and the architecture.
    """
    keras.utils.set_random_seed(config.seed)
    norm = dict(global_batch_norm=config.global_bn, batch_norm_decay=config.batch_norm_decay)
    encoder = resnet.resnet(
        depth=config.resnet_depth,
        width_multiplier=config.width_multiplier,
        sk_ratio=config.sk_ratio,
        se_ratio=config.se_ratio,
        image_size=config.image_size,
        stem=config.stem,
        **norm,
    )
    head = heads.projection_head(
        encoder.output_shape[-1],
        num_layers=config.num_proj_layers,
        out_dim=config.proj_out_dim,
        mode=config.proj_head_mode,
        **norm,
    )
    classifier = None
    if num_classes:
        classifier = heads.classifier(
            head.outputs[config.ft_proj_selector].shape[-1],
            num_classes,
            zero_init=config.zero_init_logits_layer,
        )
    return Networks(encoder, head, classifier)


def run(config: Config) -> dict:
    """Carries out `config`: `train_mode` says which stage or stages.

    Returns:
        What `result.json` holds; empty after `mode="train"`.

    Raises:
        DatasetError, RunError, CheckpointError, DeviceError: the run cannot begin; nothing on disk
            was changed.
        NonFiniteError: training diverged.
    """
    if config.use_tpu:
        strategy = distribute.tpu_strategy(
            config.master or config.tpu_name, config.tpu_zone, config.gcp_project
        )
    else:
        strategy = distribute.make_strategy(config.strategy, config.num_replicas)
    keras.config.set_dtype_policy(config.precision)
    data = datasets.open_dataset(config.dataset, config.data_dir, config.seed)
    if config.train_mode == "pretrain_linear_eval":
        return _pretrain_linear_eval(config, data, strategy)
    return Run(config, data, strategy).execute()


def _pretrain_linear_eval(config, data, strategy) -> dict:
    root = epath.Path(config.model_dir)
    pretrain = dataclasses.replace(config, train_mode="pretrain", model_dir=str(root / "pretrain"))
    linear = dataclasses.replace(
        config,
        train_mode="linear_eval",
        model_dir=str(root / "linear_eval"),
        checkpoint=pretrain.model_dir,
        optimizer=config.linear_optimizer,
        learning_rate=config.linear_learning_rate,
        learning_rate_scaling="linear",
        warmup_epochs=0.0,
        weight_decay=config.linear_weight_decay,
        min_crop_area=config.linear_min_crop_area,
        train_epochs=config.linear_epochs,
        train_batch_size=config.linear_batch_size or config.train_batch_size,
    )
    random_init = dataclasses.replace(
        linear, model_dir=str(root / "linear_eval_random_init"), checkpoint=None
    )
    # All are made, and so checked, before the first begins.
    check_same_run(root, config)
    batch_flag = "linear_batch_size" if config.linear_batch_size else "train_batch_size"
    runs = [Run(pretrain, data, strategy)]
    runs += [Run(stage, data, strategy, batch_flag) for stage in (linear, random_init)]
    results = [runs[0].execute()]
    if config.mode != "eval":
        claim(root, config)
    results += [stage.execute() for stage in runs[1:]]
    if not all(results):
        return {}
    result = {
        **results[1],
        "random_init_top_1_accuracy": results[2]["label_top_1_accuracy"],
        "pretrain_global_step": results[0]["global_step"],
    }
    write(root / _result_name(config), to_json(result))
    names = ("linear evaluation, pretrained", "linear evaluation, random initialization")
    rows = [
        (
            name,
            stage.encoder_description,
            stage.train_split.num_examples,
            row["label_top_1_accuracy"],
            row["label_top_5_accuracy"],
            seconds_spent(stage.directory / "history.csv"),
        )
        for name, stage, row in zip(names, runs[1:], results[1:], strict=True)
    ]
    pretrained = runs[0]
    rows.insert(
        0,
        (
            "pretraining, online classifier",
            pretrained.encoder_description,
            pretrained.train_split.num_examples if pretrained.train_labelled else 0,
            results[0].get("label_top_1_accuracy"),
            results[0].get("label_top_5_accuracy"),
            seconds_spent(pretrained.directory / "history.csv"),
        ),
    )
    places = {
        "results": root / _result_name(config),
        "encoder, head": pretrained.directory / "*.keras",
        "SavedModels": f"{pretrained.directory / 'hub'}, {runs[1].directory / 'hub'}",
        "views": pretrained.directory / "views.png",
        "TensorBoard": f"tensorboard --logdir {root}",
    }
    print()
    print(report.table(["stage", "encoder", "labels", "top-1", "top-5", "seconds"], rows))
    print()
    for name, place in places.items():
        print(f"{name + ':':<15}{place}")
    return result


class Run:
    """One stage in its run directory. Making it checks everything that can be checked first.

    Args:
        config: The stage's options; its `train_mode` is that of one stage.
        data: The data set.
        strategy: Where it runs.
        batch_flag: The option that the batch size came from, for errors.

    Raises:
        DatasetError, RunError: the options do not fit the data, the devices or the directory.
    """

    def __init__(
        self,
        config: Config,
        data: datasets.ImageDataset,
        strategy: tf.distribute.Strategy,
        batch_flag: str = "train_batch_size",
    ):
        self.config = config
        self.data = data
        self.strategy = strategy
        self.directory = epath.Path(config.model_dir)
        self.pretrains = config.train_mode == "pretrain"
        self.train_split = data.split(config.train_split)
        if not config.eval_split and not data.default_eval_split:
            logging.warning(
                "%s holds no images out: evaluation is on the training images. `eval_split` and "
                "`train_split` can cut it, as in --train_split='train[:80%%]'.",
                data.name,
            )
        self.eval_split = data.split(
            config.eval_split or data.default_eval_split or config.train_split
        )
        replicas = strategy.num_replicas_in_sync
        for name, batch in (
            (batch_flag, config.train_batch_size),
            ("eval_batch_size", config.eval_batch_size),
        ):
            if batch % replicas:
                raise RunError(
                    f"`{name}` must be a multiple of the {replicas} replicas. "
                    f"Received: {name}={batch}"
                )
        datasets.check_batch_size(self.train_split, config.train_batch_size, batch_flag)
        self.train_labelled = _has_labels(data, self.train_split)
        self.eval_labelled = _has_labels(data, self.eval_split)
        if not self.pretrains and not (self.train_labelled and self.eval_labelled):
            raise RunError(
                f"train_mode={config.train_mode} needs labels, and {data.name} has none in "
                f"{self.train_split.name} or {self.eval_split.name}. Put the images in a folder "
                "for each class, or use --train_mode=pretrain."
            )
        examples, batch = self.train_split.num_examples, config.train_batch_size
        self.total_steps = config.train_steps or optimizers.total_steps(
            examples, config.train_epochs, batch
        )
        self.epochs = config.train_epochs
        if config.train_steps:
            self.epochs = max(1, round(config.train_steps * batch / examples))
        self.schedule = optimizers.WarmupCosine(
            optimizers.peak_learning_rate(
                config.learning_rate, batch, config.learning_rate_scaling
            ),
            optimizers.warmup_steps(examples, config.warmup_epochs, batch),
            self.total_steps,
        )
        check_same_run(self.directory, config)

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
        with self.strategy.scope():
            networks = self._networks()
            stage = self._stage(networks)
        store = checkpoints.Checkpoints(
            str(self.directory / "checkpoints"),
            checkpoints.named(networks.weights, stage.optimizer),
            keep=config.keep_checkpoint_max,
        )
        print(
            f"\n{config.train_mode}: {self.encoder_description}, {self.data.name} "
            f"({self.train_split.num_examples:,} images), {self.total_steps:,} steps of "
            f"{config.train_batch_size}, in {self.directory}",
            flush=True,
        )
        restored = store.restore()
        if config.mode == "eval":
            if not restored:
                raise RunError(
                    f"mode=eval needs a checkpoint, and {self.directory} has none. Train first."
                )
        else:
            begin = self._begin(networks, stage, restored)
            self._train(stage, store, begin)
            self._export(networks, self.total_steps, anew=begin < self.total_steps)
        if config.mode == "train":
            return {}
        step = int(stage.optimizer.iterations.numpy())
        result = {**self._evaluate(networks, stage, step), "global_step": step}
        write(self.directory / _result_name(config), to_json(result))
        print("  ".join(f"{name} {value:.4g}" for name, value in result.items()), flush=True)
        return result

    def _networks(self) -> Networks:
        config = self.config
        probes = not self.pretrains or (self.train_labelled and config.lineareval_while_pretraining)
        networks = build_networks(config, self.data.num_classes if probes else 0)
        if not self.pretrains and config.ft_proj_selector == 0:
            # The head has no part in this stage, and is only passed on to the export.
            source = checkpoints.latest(str(self.directory)) or config.checkpoint
            if not source or not checkpoints.fits(source, [networks.head]):
                networks = dataclasses.replace(networks, head=None)
        return networks

    def _stage(self, networks: Networks) -> stages.Stage:
        config = self.config
        optimizer = optimizers.make_optimizer(
            config.optimizer, self.schedule, config.momentum, config.weight_decay
        )

        def penalty(variables):
            decayed = optimizers.l2_variables(optimizer, variables)
            return config.weight_decay * optimizers.l2_loss(decayed)

        options = dict(penalty=penalty if config.weight_decay else None, name=config.train_mode)
        if self.pretrains:
            stage = stages.Pretrainer(
                networks.encoder,
                networks.head,
                objectives.NTXent(
                    config.temperature, config.hidden_norm, config.chunk_size or None
                ),
                networks.classifier,
                config.ft_proj_selector,
                **options,
            )
        else:
            after = 4 if config.train_mode == "linear_eval" else config.fine_tune_after_block
            resnet.freeze(networks.encoder, after)
            if networks.head is not None:
                networks.head.trainable = config.train_mode != "linear_eval"
            stage = self._classifier_stage(networks, **options)
        stage.compile(optimizer=optimizer, jit_compile=False)
        optimizer.build(stage.trainable_variables)
        return stage

    def _classifier_stage(self, networks, **options):
        selector = self.config.ft_proj_selector
        part = heads.up_to(networks.head, selector) if selector else None
        return stages.Classifier(networks.encoder, networks.classifier, part, **options)

    def _begin(self, networks, stage, restored: bool) -> int:
        """Loads the starting weights and takes the directory; returns the step to begin at."""
        config = self.config
        start = to_json({"weights": checkpoints.fingerprint(config.checkpoint)})
        start_file = self.directory / "start.json"
        step = 0
        if restored:
            step = int(stage.optimizer.iterations.numpy())
            if start_file.exists() and start_file.read_text() != start:
                raise RunError(
                    f"{self.directory} holds a run that began with other weights than "
                    f"--checkpoint={config.checkpoint} has now. Choose another --model_dir, or "
                    "remove that folder to begin again."
                )
            print(f"Resuming at step {step:,} of {self.total_steps:,}.", flush=True)
        elif config.checkpoint:
            sources = [networks.encoder] + [networks.head] * (networks.head is not None)
            checkpoints.load(config.checkpoint, sources)
            print(f"Starting from the weights in {config.checkpoint}.", flush=True)
        elif not self.pretrains:
            print("Starting from random weights: no `checkpoint` is given.", flush=True)
        claim(self.directory, config)
        write(start_file, start)
        return step

    def _train(self, stage, store, begin: int) -> None:
        config = self.config
        if begin >= self.total_steps:
            return
        if self.pretrains:
            self._draw_views()
        loop.train(
            stage,
            self.strategy,
            lambda context: self._batches(context, start_step=begin),
            schedule=self.schedule,
            total_steps=self.total_steps,
            epochs=self.epochs,
            start_step=begin,
            callbacks=[
                Summaries(self.directory / "logs" / "train", config.train_summary_steps),
                HistoryFile(self.directory / "history.csv"),
                SaveCheckpoints(store, config.checkpoint_steps, config.checkpoint_epochs),
            ],
            verbose=_verbosity(),
        )
        if self.data.num_skipped:
            print(f"{self.data.num_skipped:,} unreadable image(s) were skipped.", flush=True)

    def _batches(self, context, start_step=0) -> tf.data.Dataset:
        config = self.config
        if self.pretrains:
            return self._views(context, self.train_split, config.train_batch_size, start_step)
        batches = datasets.training_batches(
            self.train_split,
            start_step=start_step,
            cache=config.cache_dataset,
            **self._pipeline(context, config.train_batch_size),
        )
        return _per_replica(batches, context, config.train_batch_size)

    def _views(self, context, split, batch_size, start_step=0) -> tf.data.Dataset:
        config = self.config
        batches = datasets.pretraining_batches(
            split,
            start_step=start_step,
            cache=config.cache_dataset,
            color_jitter_strength=config.color_jitter_strength,
            color_jitter_version=config.color_jitter_version,
            use_blur=config.use_blur,
            **self._pipeline(context, batch_size),
        )
        return _per_replica(batches, context, batch_size)

    def _pipeline(self, context, batch_size) -> dict:
        return dict(
            batch_size=batch_size // context.num_input_pipelines,
            image_size=self.config.image_size,
            seed=self.config.seed,
            min_crop_area=self.config.min_crop_area,
            shard=(context.input_pipeline_id, context.num_input_pipelines),
        )

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

    def _evaluate(self, networks, stage, step: int) -> dict[str, float]:
        config = self.config
        if networks.classifier is None or not self.eval_labelled:
            logs = self._evaluate_contrast(stage)
        else:
            with self.strategy.scope():
                if self.pretrains:
                    stage = self._classifier_stage(networks)
            batch = config.eval_batch_size
            steps = -(-self.eval_split.num_examples // batch)
            logs = loop.evaluate(
                stage,
                self.strategy,
                lambda context: _per_replica(
                    datasets.evaluation_batches(
                        self.eval_split,
                        batch_size=batch // context.num_input_pipelines,
                        image_size=config.image_size,
                        shard=(context.input_pipeline_id, context.num_input_pipelines),
                    ),
                    context,
                    batch,
                ),
                steps=min(config.eval_steps or steps, steps),
                verbose=_verbosity(),
            )
            logs = {
                "label_top_1_accuracy": logs["top_1_accuracy"],
                "label_top_5_accuracy": logs["top_5_accuracy"],
                "loss": logs["loss"],
            }
        folder = "eval" + (f"_{config.eval_name}" if config.eval_name else "")
        with tf.summary.create_file_writer(str(self.directory / "logs" / folder)).as_default():
            for name, value in logs.items():
                tf.summary.scalar(name, value, step=step)
        return logs

    def _evaluate_contrast(self, stage) -> dict[str, float]:
        """Without labels: the contrastive metrics on views of the evaluation split."""
        config = self.config
        replicas = self.strategy.num_replicas_in_sync
        batch = min(config.train_batch_size, self.eval_split.num_examples)
        batch -= batch % replicas
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
            verbose=_verbosity(),
        )
        return {name: logs[name] for name in ("contrast_loss", *stage.objective.metric_names)}

    def _export(self, networks, step, anew: bool) -> None:
        """Writes the networks as `.keras` files and as a SavedModel; not again unless `anew`."""
        config = self.config
        hub = self.directory / "hub"
        module = hub / str(step)
        files = {name: self.directory / f"{name}.keras" for name in networks.models}
        if not anew and module.exists() and all(path.exists() for path in files.values()):
            return
        # Copies of their own: float32, and without the strategy's distributed variables.
        keras.config.set_dtype_policy("float32")
        copies = build_networks(
            config, networks.classifier.output_shape[-1] if networks.classifier else 0
        )
        keras.config.set_dtype_policy(config.precision)
        if networks.head is None:
            copies = dataclasses.replace(copies, head=None)
        for name, copy in copies.models.items():
            copy.set_weights([v.numpy() for v in networks.models[name].weights])
            copy.save(files[name])
        unfinished = hub / f"unfinished-{step}"
        for folder in (unfinished, module):
            if folder.exists():
                folder.rmtree()
        export(
            str(unfinished),
            copies.encoder,
            copies.head,
            copies.classifier,
            config.ft_proj_selector,
            output="representation" if self.pretrains else "logits",
        )
        unfinished.rename(module)
        others = [p for p in hub.iterdir() if p.name.isdigit() and p.name != module.name]
        others.sort(key=lambda p: int(p.name), reverse=True)
        if config.keep_hub_module_max:
            for old in others[config.keep_hub_module_max - 1 :]:
                old.rmtree()
        print(f"SavedModel in {module}", flush=True)


def _has_labels(data: datasets.ImageDataset, split: datasets.Split) -> bool:
    """Whether the first example has one: some data sets have both labelled and other splits."""
    if not data.num_classes:
        return False
    return any(int(example["label"]) >= 0 for example in split.examples().take(1))


def _result_name(config: Config) -> str:
    return f"result_{config.eval_name}.json" if config.eval_name else "result.json"


def _per_replica(batches, context, global_batch) -> tf.data.Dataset:
    """Splits a host's batches, made and augmented whole, among its replicas."""
    if context.num_replicas_in_sync == context.num_input_pipelines:
        return batches
    return batches.rebatch(global_batch // context.num_replicas_in_sync, drop_remainder=True)


def _verbosity() -> int:
    # A progress bar redraws its line, which makes a file or a pipe unreadable.
    return 1 if keras.utils.is_interactive_logging_enabled() and _is_terminal() else 2


def _is_terminal() -> bool:
    import sys

    return sys.stdout.isatty() or "ipykernel" in sys.modules
