"""The files of a stage's trained networks: `.keras`, SavedModel, model card, other formats."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from etils import epy

with epy.lazy_imports():
    import keras

    from simclrv2_tf.export import artifacts, model_card

if TYPE_CHECKING:
    from simclrv2_tf.experiments.stage import Built, StageRun
    from simclrv2_tf.networks import Networks


class Exports:
    """The exports of a run.

    Args:
        run: The stage's run.
        step: The step at which it has ended.
    """

    def __init__(self, run: StageRun, step: int):
        self._run, self._step = run, step
        self._artifacts = artifacts.Artifacts(
            run.directory.path,
            str(step),
            labelled=run.labelled,
            formats=run.export_formats,
        )

    def finished(self) -> bool:
        """Whether all requested files have been written."""
        return self._artifacts.finished()

    def write(self, built: Built, replace: bool) -> None:
        """Writes the networks' files, unless all exist already; with `replace`, replaces them."""
        run, networks = self._run, built.trained or built.networks
        if not replace and self._artifacts.written(networks):
            return
        copies = built.once("copies", lambda: self._copies(networks))
        if networks.head is None:
            copies = dataclasses.replace(copies, head=None)
        for name, copy in copies.models.items():
            copy.set_weights([v.numpy() for v in networks.models[name].weights])
        if not run.is_chief:
            return
        names = run.data.main.class_names if copies.classifier else ()
        config = run.config
        self._artifacts.write(
            copies,
            config.image_size,
            names,
            replace,
            bool(config.antialias),
            config.value_range,
        )
        module = f", SavedModel in hub/{self._step}" if self._artifacts.has_module else ""
        print(f"  networks in *.keras{module}", flush=True)

    def _copies(self, networks: Networks) -> Networks:
        """Returns networks for export: in float32, without the strategy's distributed variables."""
        keras.config.set_dtype_policy("float32")
        classes = networks.classifier.output_shape[-1] if networks.classifier else 0
        copies = self._run.build_networks(classes)
        keras.config.set_dtype_policy(self._run.config.precision)
        return copies

    def finish(self, result: Mapping[str, float]) -> None:
        """Writes the model card and the other formats; removes the oldest SavedModels.

        Args:
            result: The metrics; empty if the networks were not evaluated.
        """
        config = self._run.config
        if not self._artifacts.path("keras").exists():
            return
        # A named evaluation may use other networks than the exported ones.
        text = None if config.eval_name else card(self._run, result, self._step)
        self._artifacts.finish(text, config.image_size)
        self._artifacts.remove_older(config.keep_hub_module_max)


def card(run: StageRun, result: Mapping[str, float], step: int) -> str:
    """Returns the model card of a run; `result` is empty if the run was not evaluated."""
    config, main = run.config, run.data.main
    steps = f"{step:,} of {run.total_steps:,}" if step < run.total_steps else f"{step:,}"
    name = model_card.public(main.name)
    images = run.eval_split.num_examples
    if config.eval_steps:
        images = min(images, config.eval_steps * config.eval_batch_size)
    return model_card.model_card(
        title=f"{config.encoder_description}: {config.train_mode} on {name}",
        about={
            "Method": f"SimCLRv2 (arXiv 2006.10029): {run.method}",
            "Network": f"{config.encoder_description}, images of {config.image_size} pixels",
            "Began with": model_card.public(config.checkpoint or "random weights"),
            "Images": f"{model_card.public(run.images_name)}, {run.train_split.num_examples:,} to "
            "train with",
            "Labels": run.labels_note,
            "Recipe": f"{steps} steps of {config.train_batch_size} images, "
            f"{config.optimizer}, learning rate {run.schedule.peak:.4g} at its peak, weight "
            f"decay {config.weight_decay:g}, seed {config.seed}; all options are in the run's "
            "config.json",
        },
        measured=result,
        measured_on=f"`{run.eval_split.name}` of {name} ({images:,} images)",
        licence="The owner of the weights chooses their licence, as far as the licence of the "
        "images allows. The code, simclrv2_tf, is under Apache-2.0.",
        image_size=config.image_size,
        antialias=bool(config.antialias),
        channels=config.channels,
        class_names=main.class_names if run.labelled else (),
        output="logits" if run.labelled else "representation",
    )
