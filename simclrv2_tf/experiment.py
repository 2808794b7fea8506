"""One run after its flags: data, networks, stage, training, evaluation, export, in a run directory.

    model_dir/
      config.json         every option, as run
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

import csv
import dataclasses
import io
import json
import time

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
from simclrv2_tf.config import Config
from simclrv2_tf.export import export


class RunError(ValueError):
    """A run that cannot begin as asked; the message is meant for the user."""


# What variables a run has follows from these: its checkpoints fit no run in which they differ.
_IDENTITY = (
    "train_mode",
    "dataset",
    "optimizer",
    "resnet_depth",
    "width_multiplier",
    "sk_ratio",
    "se_ratio",
    "stem",
    "proj_head_mode",
    "num_proj_layers",
    "proj_out_dim",
    "ft_proj_selector",
    "fine_tune_after_block",
    "lineareval_while_pretraining",
)
# These say how a run is carried out, not what comes out of it.
_INCIDENTAL = ("mode", "model_dir", "debug", "eval_name", "eval_batch_size", "eval_steps")


@dataclasses.dataclass(frozen=True)
class Networks:
    """The networks of a run. The classifier is absent where there are no labels."""

    encoder: keras.Model
    head: keras.Model
    classifier: keras.Model | None

    @property
    def models(self) -> dict[str, keras.Model]:
        """Those there are, by name."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: model for name, model in fields.items() if model is not None}


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
        train_epochs=config.linear_epochs,
        train_batch_size=config.linear_batch_size or config.train_batch_size,
    )
    random_init = dataclasses.replace(
        linear, model_dir=str(root / "linear_eval_random_init"), checkpoint=None
    )
    # All are made, and so checked, before the first begins.
    runs = [Run(stage, data, strategy) for stage in (pretrain, linear, random_init)]
    _claim(root, config)
    results = [stage.execute() for stage in runs]
    if not all(results):
        return {}
    result = {
        **results[1],
        "random_init_top_1_accuracy": results[2]["label_top_1_accuracy"],
        "pretrain_global_step": results[0]["global_step"],
    }
    _write_json(root / _result_name(config), result)
    names = ("linear evaluation, pretrained", "linear evaluation, random initialization")
    rows = [
        (
            name,
            stage.encoder_description,
            stage.train_split.num_examples,
            row["label_top_1_accuracy"],
            row["label_top_5_accuracy"],
        )
        for name, stage, row in zip(names, runs[1:], results[1:], strict=True)
    ]
    print()
    print(report.table(["stage", "encoder", "labels", "top-1", "top-5"], rows))
    print(f"\nResults   {root / _result_name(config)}")
    return result


class Run:
    """One stage in its run directory. Making it checks everything that can be checked first.

    Args:
        config: The stage's options; its `train_mode` is that of one stage.
        data: The data set.
        strategy: Where it runs.
    """

    def __init__(self, config: Config, data: datasets.ImageDataset, strategy):
        self.config = config
        self.data = data
        self.strategy = strategy
        self.directory = epath.Path(config.model_dir)
        self.pretrains = config.train_mode == "pretrain"
        self.train_split = data.split(config.train_split)
        self.eval_split = data.split(
            config.eval_split or data.default_eval_split or config.train_split
        )
        for name in ("train_batch_size", "eval_batch_size"):
            if getattr(config, name) % strategy.num_replicas_in_sync:
                raise RunError(
                    f"`{name}` must be a multiple of the {strategy.num_replicas_in_sync} replicas. "
                    f"Received: {name}={getattr(config, name)}"
                )
        datasets.check_batch_size(self.train_split, config.train_batch_size, "train_batch_size")
        if not self.pretrains and not data.num_classes:
            raise RunError(
                f"train_mode={config.train_mode} needs labels, and {data.name} has none. "
                "Put the images in a folder for each class, or use --train_mode=pretrain."
            )
        examples, batch = self.train_split.num_examples, config.train_batch_size
        self.total_steps = config.train_steps or optimizers.total_steps(
            examples, config.train_epochs, batch
        )
        self.epochs = max(1, round(self.total_steps * batch / examples))
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
        """Such as "ResNet-50 0.25x SK"."""
        config = self.config
        return (
            f"ResNet-{config.resnet_depth} {config.width_multiplier:g}x"
            + " SK" * (config.sk_ratio > 0)
            + " SE" * (config.se_ratio > 0)
        )

    def execute(self) -> dict:
        """Trains, exports and evaluates, as far as `mode` says; returns the result."""
        config = self.config
        probes = self.data.num_classes and (
            not self.pretrains or config.lineareval_while_pretraining
        )
        with self.strategy.scope():
            networks = build_networks(config, self.data.num_classes if probes else 0)
            stage = self._stage(networks)
        store = checkpoints.Checkpoints(
            self.directory / "checkpoints",
            checkpoints.named(
                [v for model in networks.models.values() for v in model.weights], stage.optimizer
            ),
            keep=config.keep_checkpoint_max,
        )
        print(
            f"\n{config.train_mode}: {self.encoder_description}, {self.data.name} "
            f"({self.train_split.num_examples:,} images), {self.total_steps:,} steps of "
            f"{config.train_batch_size}, in {self.directory}",
            flush=True,
        )
        if config.mode == "eval":
            if not store.restore():
                raise RunError(
                    f"mode=eval needs a checkpoint, and {self.directory} has none. Train first."
                )
        else:
            self._train(networks, stage, store)
        step = int(stage.optimizer.iterations.numpy())
        if config.mode != "eval":
            self._export(networks, step)
        if config.mode == "train":
            return {}
        result = {**self._evaluate(networks, stage), "global_step": step}
        _write_json(self.directory / _result_name(config), result)
        print("  ".join(f"{name} {value:.4g}" for name, value in result.items()), flush=True)
        return result

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
            networks.head.trainable = after < 4
            stage = self._classifier_stage(networks, **options)
        stage.compile(optimizer=optimizer, jit_compile=False)
        optimizer.build(stage.trainable_variables)
        return stage

    def _classifier_stage(self, networks, **options):
        selector = self.config.ft_proj_selector
        part = heads.up_to(networks.head, selector) if selector else None
        return stages.Classifier(networks.encoder, networks.classifier, part, **options)

    def _train(self, networks, stage, store) -> None:
        config = self.config
        if store.restore():
            step = int(stage.optimizer.iterations.numpy())
            print(f"Resuming at step {step:,} of {self.total_steps:,}.", flush=True)
        else:
            step = 0
            if config.checkpoint:
                sources = [networks.encoder]
                if self.pretrains or config.ft_proj_selector:
                    sources.append(networks.head)
                checkpoints.load(config.checkpoint, sources)
                print(f"Starting from the weights in {config.checkpoint}.", flush=True)
            elif not self.pretrains:
                print("Starting from random weights: no `checkpoint` is given.", flush=True)
        _claim(self.directory, config)
        if step >= self.total_steps:
            return
        if self.pretrains:
            self._draw_views()
        loop.train(
            stage,
            self.strategy,
            lambda context: self._batches(context, start_step=step),
            schedule=self.schedule,
            total_steps=self.total_steps,
            epochs=self.epochs,
            start_step=step,
            callbacks=[
                _Summaries(self.directory / "logs" / "train", config.train_summary_steps),
                _HistoryFile(self.directory / "history.csv"),
                _SaveCheckpoints(store, config.checkpoint_steps, config.checkpoint_epochs),
            ],
            verbose=_verbosity(),
        )
        if self.data.num_skipped:
            print(f"{self.data.num_skipped:,} unreadable image(s) were skipped.", flush=True)

    def _batches(self, context, start_step=0) -> tf.data.Dataset:
        config = self.config
        options = dict(
            batch_size=config.train_batch_size // context.num_input_pipelines,
            image_size=config.image_size,
            seed=config.seed,
            start_step=start_step,
            min_crop_area=config.min_crop_area,
            cache=config.cache_dataset,
            shard=(context.input_pipeline_id, context.num_input_pipelines),
        )
        if self.pretrains:
            batches = datasets.pretraining_batches(
                self.train_split,
                color_jitter_strength=config.color_jitter_strength,
                color_jitter_version=config.color_jitter_version,
                use_blur=config.use_blur,
                **options,
            )
        else:
            batches = datasets.training_batches(self.train_split, **options)
        return _per_replica(batches, context, config.train_batch_size)

    def _draw_views(self) -> None:
        (view1, view2), _ = next(iter(self._batches(tf.distribute.InputContext())))
        figure = report.views_figure(view1.numpy(), view2.numpy())
        report.save_figure(figure, self.directory / "views.png")
        picture = tf.io.decode_png((self.directory / "views.png").read_bytes())
        with tf.summary.create_file_writer(str(self.directory / "logs" / "train")).as_default():
            tf.summary.image("views", picture[None], step=0)

    def _evaluate(self, networks, stage) -> dict[str, float]:
        config = self.config
        if networks.classifier is None:
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
                tf.summary.scalar(name, value, step=self.total_steps)
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
        split, config_batch = self.eval_split, batch

        def batches(context):
            views = datasets.pretraining_batches(
                split,
                batch_size=config_batch // context.num_input_pipelines,
                image_size=config.image_size,
                seed=config.seed,
                color_jitter_strength=config.color_jitter_strength,
                color_jitter_version=config.color_jitter_version,
                use_blur=config.use_blur,
                min_crop_area=config.min_crop_area,
                shard=(context.input_pipeline_id, context.num_input_pipelines),
            )
            return _per_replica(views, context, config_batch)

        logs = loop.evaluate(
            stage,
            self.strategy,
            batches,
            steps=min(config.eval_steps or steps, steps),
            verbose=_verbosity(),
        )
        return {name: logs[name] for name in ("contrast_loss", *stage.objective.metric_names)}

    def _export(self, networks, step) -> None:
        """Writes the networks as `.keras` files and as a SavedModel, unless they are there."""
        config = self.config
        hub = self.directory / "hub"
        if (hub / str(step)).exists():
            return
        # Copies of their own: float32, and without the strategy's distributed variables.
        keras.config.set_dtype_policy("float32")
        copies = build_networks(
            config, networks.classifier.output_shape[-1] if networks.classifier else 0
        )
        keras.config.set_dtype_policy(config.precision)
        for name, copy in copies.models.items():
            copy.set_weights([v.numpy() for v in networks.models[name].weights])
            copy.save(self.directory / f"{name}.keras")
        unfinished = hub / f"unfinished-{step}"
        if unfinished.exists():
            unfinished.rmtree()
        export(
            str(unfinished),
            copies.encoder,
            copies.head,
            copies.classifier,
            config.ft_proj_selector,
            output="representation" if self.pretrains else "logits",
        )
        unfinished.rename(hub / str(step))
        finished = sorted((p for p in hub.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
        if config.keep_hub_module_max:
            for old in finished[: -config.keep_hub_module_max]:
                old.rmtree()
        print(f"SavedModel in {hub / str(step)}", flush=True)


def check_same_run(directory: epath.Path, config: Config) -> None:
    """Checks that `directory` is free, or holds a run that `config` continues.

    Raises:
        RunError: it holds a run of another network, stage or data set.
    """
    path = directory / "config.json"
    if not path.exists():
        return
    earlier = Config.from_json(path.read_text())
    differences = {
        f.name: (getattr(earlier, f.name), getattr(config, f.name))
        for f in dataclasses.fields(config)
        if f.name not in _INCIDENTAL and getattr(earlier, f.name) != getattr(config, f.name)
    }
    shown = ", ".join(f"{name}={old} there, {new} here" for name, (old, new) in differences.items())
    if not differences.keys().isdisjoint(_IDENTITY):
        raise RunError(
            f"`model_dir` must be new or hold the same run. Received: model_dir={directory}, which "
            f"holds another one ({shown}). Choose another --model_dir; nothing there was changed."
        )
    if differences:
        logging.warning("Continuing the run in %s with other options: %s.", directory, shown)


def _claim(directory: epath.Path, config: Config) -> None:
    check_same_run(directory, config)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(config.to_json())


def _result_name(config: Config) -> str:
    return f"result_{config.eval_name}.json" if config.eval_name else "result.json"


def _write_json(path: epath.Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


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


class _SaveCheckpoints(keras.callbacks.Callback):
    """Saves every so many steps or epochs, and at the end."""

    def __init__(self, store, every_steps: int, every_epochs: int):
        super().__init__()
        self._store, self._every_steps, self._every_epochs = store, every_steps, every_epochs
        self._saved = None

    def on_train_batch_end(self, batch, logs=None):
        if self._every_steps and self._step() % self._every_steps == 0:
            self._save()

    def on_epoch_end(self, epoch, logs=None):
        if not self._every_steps and (epoch + 1) % self._every_epochs == 0:
            self._save()

    def on_train_end(self, logs=None):
        if self._saved != self._step():
            self._save()

    def _step(self) -> int:
        return int(self.model.optimizer.iterations.numpy())

    def _save(self):
        self._saved = self._step()
        try:
            self._store.save(self._saved)
        except FloatingPointError as error:
            raise loop.NonFiniteError(
                f"After step {self._saved}: {error} The last checkpoint is from before that; "
                "lower the learning rate, lengthen the warm-up or use float32."
            ) from None


class _Summaries(keras.callbacks.Callback):
    """TensorBoard scalars by global step, every so many steps or at each epoch's end."""

    def __init__(self, directory, every_steps: int):
        super().__init__()
        self._directory, self._every_steps = str(directory), every_steps

    def on_train_begin(self, logs=None):
        self._writer = tf.summary.create_file_writer(self._directory)

    def on_train_batch_end(self, batch, logs=None):
        step = int(self.model.optimizer.iterations.numpy())
        if self._every_steps and step % self._every_steps == 0:
            self._write(step, logs)

    def on_epoch_end(self, epoch, logs=None):
        if not self._every_steps:
            self._write(int(self.model.optimizer.iterations.numpy()), logs)

    def on_train_end(self, logs=None):
        self._writer.close()

    def _write(self, step, logs):
        with self._writer.as_default():
            for name, value in logs.items():
                tf.summary.scalar(name, value, step=step)


class _HistoryFile(keras.callbacks.Callback):
    """A row an epoch, with its seconds; a resumed run drops the rows that it makes again."""

    def __init__(self, path: epath.Path):
        super().__init__()
        self._path = path
        self._rows = None
        self._began = None

    def on_epoch_begin(self, epoch, logs=None):
        self._began = time.monotonic()
        if self._rows is None:
            text = self._path.read_text() if self._path.exists() else ""
            rows = csv.DictReader(io.StringIO(text))
            self._rows = [row for row in rows if int(row["epoch"]) <= epoch]

    def on_epoch_end(self, epoch, logs=None):
        seconds = round(time.monotonic() - self._began, 3)
        self._rows.append({"epoch": epoch + 1, **logs, "seconds": seconds})
        text = io.StringIO()
        writer = csv.DictWriter(text, self._rows[-1], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        self._path.write_text(text.getvalue())
