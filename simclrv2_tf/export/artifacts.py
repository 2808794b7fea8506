"""The files of trained networks: Keras's, the SavedModel with its card, and other formats.

Below the directory of a run, and of what `python -m simclrv2_tf.official` imports:

    encoder.keras, head.keras, classifier.keras   the networks
    image_classifier.keras                        with a classifier: images to logits
    labels.txt, inputs.json                       class names; the images' side
    hub/NAME/                                     the SavedModel of `export.export`, README.md in it

and, on demand,

    hub/NAME.tar.gz                               that folder as one file
    encoder.onnx or image_classifier.onnx         ONNX, of the .keras file
    encoder.tflite or image_classifier.tflite     LiteRT
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import keras
from etils import epath

from simclrv2_tf.contents import IMAGE_CLASSIFIER, KERAS_FILES
from simclrv2_tf.export.formats import EXPORT_FORMATS, FORMATS
from simclrv2_tf.export.model import notes
from simclrv2_tf.export.saved_model import export
from simclrv2_tf.files import whole
from simclrv2_tf.networks import Networks


@dataclasses.dataclass(frozen=True)
class Artifacts:
    """The files of trained networks below one directory.

    Args:
        directory: The directory.
        name: Name of the SavedModel, such as the number of its last step.
        labelled: Whether the networks turn images into logits.
        formats: What is written beside the SavedModel, of `EXPORT_FORMATS`.
        saved_model: Whether to write the SavedModel. Without it its folder holds the model card
            alone, for tests of other files.
    """

    directory: epath.Path
    name: str
    labelled: bool
    formats: Sequence[str] = ()
    saved_model: bool = True

    @property
    def module(self) -> epath.Path:
        """The folder of the SavedModel."""
        return self.directory / "hub" / self.name

    def path(self, name: str) -> epath.Path:
        """The file of the export format `name`."""
        row = FORMATS[name]
        stem = IMAGE_CLASSIFIER if self.labelled else KERAS_FILES[0]
        return row.path(self.module if row.source == "saved_model" else self.directory / stem)

    def write(
        self, networks: Networks, image_size: int, class_names: Sequence[str], anew: bool = True
    ) -> None:
        """Writes the `.keras` files and the SavedModel, each whole or not at all.

        Args:
            networks: In float32, and not a strategy's.
            image_size: Side of the images they were trained with.
            class_names: (C,) in the order of the logits; empty if the classes have no names.
            anew: Whether existing files are of other weights, and replaced.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        if anew:
            for name in EXPORT_FORMATS:
                self.path(name).unlink(missing_ok=True)
        for path, model in self._keras_files(networks).items():
            if anew or not path.exists():
                with whole(path) as unfinished:
                    model().save(unfinished)
        for name, text in notes(image_size, class_names).items():
            (self.directory / name).write_text(text)
        if anew or not self.module.exists():
            with whole(self.module) as unfinished:
                if self.saved_model:
                    export(
                        str(unfinished),
                        **networks.models,
                        classifier_layer=networks.classifier_layer,
                        output="logits" if self.labelled else "representation",
                        image_size=image_size,
                        class_names=class_names,
                    )
                else:
                    unfinished.mkdir(parents=True)

    def written(self, networks: Networks) -> bool:
        """Whether all files that `write` makes of `networks` exist."""
        return all(path.exists() for path in (*self._keras_files(networks), self.module))

    def finish(self, card: str | None, image_size: int) -> None:
        """Writes the model card and the other formats, which are made of the files.

        Args:
            card: For the SavedModel's folder; None leaves an earlier card.
            image_size: As for `write`.

        Raises:
            ExportError: Keras cannot write a format. All other files are there.
        """
        if card is not None:
            (self.module / "README.md").write_text(card)
        for name in filter(self.formats.__contains__, EXPORT_FORMATS):
            row, path = FORMATS[name], self.path(name)
            of_module = row.source == "saved_model"  # its card may have changed
            if of_module or not path.exists():
                source = self.module if of_module else path.with_suffix(".keras")
                assert row.write, "formats in `EXPORT_FORMATS` can be written"
                with whole(path) as unfinished:
                    row.write(source, unfinished, image_size)

    def finished(self) -> bool:
        """Whether the SavedModel and every format that is asked for exist."""
        return all(path.exists() for path in (self.module, *map(self.path, self.formats)))

    def remove_older(self, keep: int) -> None:
        """Removes SavedModels of other steps but the newest, `keep` in all; 0 keeps all."""
        others = [p for p in self.module.parent.iterdir() if p.name.isdigit()]
        others = sorted((p for p in others if p != self.module), key=lambda p: -int(p.name))
        for old in others[keep - 1 :] if keep else ():
            for row in FORMATS.values():
                if row.write and row.source == "saved_model":
                    row.path(old).unlink(missing_ok=True)
            old.rmtree()

    def _keras_files(self, networks: Networks) -> dict[epath.Path, Callable[[], keras.Model]]:
        files: dict[str, Callable[[], keras.Model]] = {
            f"{name}.keras": functools.partial(networks.models.__getitem__, name)
            for name in networks.models
        }
        if self.labelled:
            files[IMAGE_CLASSIFIER] = networks.image_classifier
        return {self.directory / name: make for name, make in files.items()}
