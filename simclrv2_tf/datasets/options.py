"""Options of the data: which images and which labels a run trains and evaluates on."""

import dataclasses

from simclrv2_tf import options
from simclrv2_tf.channels import RGB
from simclrv2_tf.datasets.sources import PACKAGED
from simclrv2_tf.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions(options.Group, title="Data", once=True):
    """Data sets, their splits, and the size of the images."""

    dataset: str | None = option(
        None,
        f"{PACKAGED} (packaged), the name of a TensorFlow Datasets builder, or folder:PATH "
        "for a folder of images (PATH alone where no data set has that name). Without it, flags "
        "that are not given come from the recipe `demo`.",
    )
    data_dir: str | None = option(
        None,
        "Folder where TensorFlow Datasets keeps its data sets, by default its own; and where image "
        "files that TensorFlow does not read are converted to, once, by default the user's cache.",
        incidental=True,
    )
    train_split: str = option("train", "Split to train on.")
    unlabelled_dataset: str | None = option(
        None,
        "Data set of the unlabelled images of pretraining and distillation; by default `dataset`. "
        "Named like it; its labels, if any, are never read.",
    )
    unlabelled_split: str | None = option(
        None,
        "Split of the unlabelled images; by default `train_split`, or `train` of another data set, "
        "with the split `unlabelled` of a folder that has one.",
    )
    eval_split: str | None = option(
        None,
        "Split to evaluate on. By default the data set's test or validation split; of a folder, "
        "test unless only validation has labels.",
        incidental=True,
    )
    split_seed: int = option(
        0,
        "Seed of which images of a folder without a test or validation split are held out, "
        "whatever `seed` is. A student needs its teacher's.",
        minimum=0,
    )
    value_range: tuple[float, ...] | None = option(
        None,
        "Samples of 16-bit images that become black and white, such as 0,4095 for 12 bits; by "
        "default 0,65535. Images of 8 bits stay as they are.",
        minimum=0,
        maximum=65535,
    )
    channels: int = option(
        RGB,
        "Channels of the network's input. 3: RGB, gray images too. 1: gray, to which colors are "
        "converted. 2, or 4 and more: the bands of TIFF files, or of PNG files with 2 or 4 samples "
        "a pixel; a file of another number is skipped. With any number but 3, color jitter changes "
        "brightness and contrast only, and no view is made gray. By default as in the run of "
        "`checkpoint`.",
        minimum=1,
    )
    cache_dataset: bool = option(
        False,
        "Keep the training images in memory, as they are stored: for small data sets.",
        once=False,
        incidental=True,
    )
    image_size: int = option(
        224, "Height and width of the network's input, in pixels.", minimum=8, once=False
    )
    antialias: bool | None = option(
        None,
        "Resize with antialiasing where crops and evaluation images are more than twice "
        "`image_size` high or wide. The reference does not. By default as the weights of `teacher` "
        "or `checkpoint` were trained; without these, on where `dataset` is a folder of images, "
        "and off elsewhere. It is noted in inputs.json, and predictions follow it.",
        unrecorded=False,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelOptions(options.Group, title="Labels", once=True):
    """Which labels are used."""

    label_fraction: tuple[float, ...] | None = option(
        None,
        "Share of the training images whose labels are used: a subset with equally many of each "
        "class, listed in labelled_examples.txt. By default all; in semi_supervised 0.01,0.1, "
        "each of which is a row of its results. Published subsets go by their own names, such as "
        "--dataset=imagenet2012_subset/1pct.",
        positive=True,
        maximum=1,
    )
    labels_per_class: int = option(
        0, "Labels of each class, in place of `label_fraction`; 0: as that says.", minimum=0
    )
    label_seed: int = option(
        0,
        "Seed of the label subset: the same subset in every stage, run and machine, whatever "
        "`seed` is.",
        minimum=0,
    )
    class_weights: str = option(
        "none",
        "Weights of the classes in the loss of stages that train a classifier; balanced: N / (C "
        "n_c) for a class of n_c of N labelled images, so that each of the C classes counts alike.",
        choices=("none", "balanced"),
        once=False,
    )
    balanced_sampling: bool = option(
        False,
        "Draw each class equally often in stages that learn from labels: images of small classes "
        "are repeated, and an epoch has as many images as without. In distillation this "
        "concerns the labelled images. It excludes `class_weights`, has no effect on "
        "pretraining, and needs images that can be read in any order: of TensorFlow Datasets, only "
        "label subsets can.",
        once=False,
    )
    hold_labels_back: bool = option(
        False,
        "Never read the labels of the unlabelled images: pretraining then has no online "
        "classifier. (No label ever reaches the encoder in pretraining, either way.)",
    )
