"""The files of trained networks: `.keras` files, the model card, and the requested formats.

In the directory of a run, or of an import by `python -m simclrv2_tf.official`:

    encoder.keras, head.keras, classifier.keras,
    predictor.keras                               the networks
    image_classifier.keras                        with a classifier: images to logits
    labels.txt, inputs.json                       class names; the images' side and resizing
    README.md                                     the model card
    SHA256SUMS                                    checksums of the networks and of inputs.json

and, depending on the formats,

    hub/NAME/                                     the SavedModel of `export.export`, with the card
    hub/NAME.tar.gz                               the same folder as one file
    encoder.onnx or image_classifier.onnx         ONNX, from the .keras file
    encoder.tflite or image_classifier.tflite     LiteRT
    encoder.safetensors and so on                 weights only, see `safetensors_file`
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import keras
from etils import epath

from simclrv2_tf import sums
from simclrv2_tf.contents import IMAGE_CLASSIFIER, KERAS_FILES
from simclrv2_tf.export import keras_file
from simclrv2_tf.export.formats import DEFAULT_FORMATS, FORMATS
from simclrv2_tf.export.model import INPUTS, notes
from simclrv2_tf.export.saved_model import export
from simclrv2_tf.files import whole, write_text
from simclrv2_tf.networks import Networks


@dataclasses.dataclass(frozen=True)
class Artifacts:
    """The files of trained networks in one directory.

    Args:
        directory: The directory.
        name: Name of the SavedModel, such as the number of its last step.
        labelled: Whether the networks map images to logits.
        formats: Formats of `EXPORT_FORMATS` to write in addition to the `.keras` files. An archive
            of the SavedModel includes the SavedModel.
    """

    directory: epath.Path
    name: str
    labelled: bool
    formats: Sequence[str] = DEFAULT_FORMATS

    @property
    def module(self) -> epath.Path:
        """The folder of the SavedModel."""
        return self.directory / "hub" / self.name

    @property
    def has_module(self) -> bool:
        """Whether the formats include a SavedModel."""
        return any("saved_model" in (name, FORMATS[name].source) for name in self.formats)

    def path(self, name: str) -> epath.Path:
        """Returns the file of the export format `name`."""
        row = FORMATS[name]
        if name == "saved_model":
            return self.module
        stem = IMAGE_CLASSIFIER if self.labelled else KERAS_FILES[0]
        return row.path(self.module if row.source == "saved_model" else self.directory / stem)

    def write(
        self,
        networks: Networks,
        image_size: int,
        class_names: Sequence[str],
        replace: bool = True,
        antialias: bool = False,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        """Writes the `.keras` files and, if requested, the SavedModel. Each write is atomic.

        Args:
            networks: Networks in float32, without a strategy's variables.
            image_size: Side of their training images in pixels.
            class_names: (C,) in the order of the logits; empty if the classes have no names.
            replace: Whether existing files have other weights and must be replaced.
            antialias: Whether the training images were resized with antialiasing.
            value_range: The 16-bit samples that were black and white in the training images.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        keras_file.keep_skipped_names()
        if replace:
            for path in (self.directory / sums.NAME, *map(self.path, _converted())):
                path.unlink(missing_ok=True)
            if self.module.exists():
                self.module.rmtree()
        for path, model in self._keras_files(networks).items():
            if replace or not path.exists():
                with whole(path) as unfinished:
                    model().save(unfinished)
        for name, text in notes(
            image_size, class_names, antialias, value_range, networks.channels
        ).items():
            write_text(self.directory / name, text)
        if self.has_module and not self.module.exists():
            with whole(self.module) as unfinished:
                export(
                    str(unfinished),
                    **networks.models,
                    classifier_layer=networks.classifier_layer,
                    output="logits" if self.labelled else "representation",
                    image_size=image_size,
                    class_names=class_names,
                    antialias=antialias,
                    value_range=value_range,
                )

    def written(self, networks: Networks) -> bool:
        """Whether all files that `write` makes from `networks` exist."""
        modules = [self.module] if self.has_module else []
        return all(path.exists() for path in (*self._keras_files(networks), *modules))

    def finish(self, card: str | None, image_size: int) -> None:
        """Writes the model card and the other formats, which are made from the files.

        Args:
            card: The text of the model card; None keeps an earlier card.
            image_size: As for `write`.

        Raises:
            ExportError: Keras cannot write a format. All other files are written.
        """
        places = [self.directory, self.module] if self.has_module else [self.directory]
        if card is not None:
            for place in places:
                write_text(place / "README.md", card)
        for name in filter(self.formats.__contains__, _converted()):
            row, path = FORMATS[name], self.path(name)
            of_module = row.source == "saved_model"  # its card may have changed
            if of_module or not path.exists():
                assert row.write, "`_converted` has the formats that can be written"
                with whole(path) as unfinished:
                    row.write(self.path(row.source), unfinished, image_size)
        sums.write(self.directory, self._in_directory())

    def finished(self) -> bool:
        """Whether the networks' `.keras` files, the card and every requested format exist."""
        always = (self.directory / name for name in (KERAS_FILES[0], "README.md"))
        return all(path.exists() for path in (*always, *map(self.path, ("keras", *self.formats))))

    def remove_older(self, keep: int) -> None:
        """Removes the oldest SavedModels; keeps `keep` in total, 0 keeps all."""
        if not self.module.exists():
            return
        others = [p for p in self.module.parent.iterdir() if p.name.isdigit()]
        others = sorted((p for p in others if p != self.module), key=lambda p: -int(p.name))
        for old in others[keep - 1 :] if keep else ():
            for row in FORMATS.values():
                if row.write and row.source == "saved_model":
                    row.path(old).unlink(missing_ok=True)
            old.rmtree()

    def _in_directory(self) -> list[epath.Path]:
        """Returns the exported files, except for SavedModels and what users may edit."""
        names = [*KERAS_FILES, IMAGE_CLASSIFIER, INPUTS]
        paths = [*(self.directory / name for name in names), *map(self.path, _converted())]
        return [path for path in paths if path.parent == self.directory and path.exists()]

    def _keras_files(self, networks: Networks) -> dict[epath.Path, Callable[[], keras.Model]]:
        files: dict[str, Callable[[], keras.Model]] = {
            f"{name}.keras": functools.partial(networks.models.__getitem__, name)
            for name in networks.models
        }
        if self.labelled:
            files[IMAGE_CLASSIFIER] = networks.image_classifier
        return {self.directory / name: make for name, make in files.items()}


def _converted() -> list[str]:
    """Returns the names of the formats that are made from files of another format."""
    return [name for name, row in FORMATS.items() if row.write]
