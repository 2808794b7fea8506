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
        f"{PACKAGED} (packaged), the name of a TensorFlow Datasets builder, or folder:PATH for a "
        "folder of images (PATH is enough if no data set has that name). Without this flag, all "
        "flags that are not given come from the recipe `demo`.",
    )
    data_dir: str | None = option(
        None,
        "Folder of TensorFlow Datasets' data sets; default: its own. Also the folder for converted "
        "copies of image files that TensorFlow does not read; default: the user's cache.",
        incidental=True,
    )
    train_split: str = option("train", "Split to train on.")
    unlabelled_dataset: str | None = option(
        None,
        "Data set of the unlabelled images of pretraining and distillation, named like `dataset`; "
        "default: `dataset`. Its labels, if any, are never read.",
    )
    unlabelled_split: str | None = option(
        None,
        "Split of the unlabelled images; default: `train_split`, or `train` of another data set, "
        "plus the split `unlabelled` if a folder has one.",
    )
    eval_split: str | None = option(
        None,
        "Split to evaluate on; default: the data set's test or validation split; for a folder, "
        "test unless only validation has labels.",
        incidental=True,
    )
    split_seed: int = option(
        0,
        "Seed that decides which images of a folder without a test or validation split are held "
        "out, independent of `seed`. A student needs its teacher's value.",
        minimum=0,
    )
    value_range: tuple[float, ...] | None = option(
        None,
        "Samples of 16-bit images that become black and white, such as 0,4095 for 12 bits; "
        "default: 0,65535. Does not change images of 8 bits.",
        minimum=0,
        maximum=65535,
    )
    channels: int = option(
        RGB,
        "Channels of the network's input. 3: RGB; gray images are converted. 1: gray; colors are "
        "converted. 2, or 4 and more: the bands of TIFF files, or of PNG files with 2 or 4 samples "
        "per pixel; files with another number are skipped. With any number except 3, color jitter "
        "only changes brightness and contrast, and no view becomes gray. Default: as in the run of "
        "`checkpoint`.",
        minimum=1,
    )
    cache_dataset: bool = option(
        False,
        "Keep the stored training images in memory; for small data sets.",
        once=False,
        incidental=True,
    )
    image_size: int = option(
        224, "Height and width of the network's input, in pixels.", minimum=8, once=False
    )
    antialias: bool | None = option(
        None,
        "Resize with antialiasing if crops and evaluation images are more than twice `image_size` "
        "high or wide. The reference does not. Default: as the weights of `teacher` or "
        "`checkpoint` were trained; without these, on if `dataset` is a folder of images, else "
        "off. inputs.json records the value, and predictions use it.",
        unrecorded=False,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelOptions(options.Group, title="Labels", once=True):
    """Which labels to use."""

    label_fraction: tuple[float, ...] | None = option(
        None,
        "Share of the training images whose labels are used: a subset with equally many images per "
        "class, listed in labelled_examples.txt. Default: all; in semi_supervised 0.01,0.1, one "
        "row of results per value. Published subsets have their own names, such as "
        "--dataset=imagenet2012_subset/1pct.",
        positive=True,
        maximum=1,
    )
    labels_per_class: int = option(
        0, "Labels per class, instead of `label_fraction`; 0: use `label_fraction`.", minimum=0
    )
    label_seed: int = option(
        0,
        "Seed of the label subset: the same subset in every stage, run and machine, whatever "
        "`seed` is.",
        minimum=0,
    )
    class_weights: str = option(
        "none",
        "Class weights in the loss of stages that train a classifier; balanced: N / (C n_c) for a "
        "class with n_c of N labelled images, so that the C classes have equal weight.",
        choices=("none", "balanced"),
        once=False,
    )
    balanced_sampling: bool = option(
        False,
        "Draw each class equally often in stages that learn from labels: images of small classes "
        "repeat, and the number of images per epoch stays the same. In distillation this applies "
        "to the labelled images. Cannot be combined with `class_weights`, has no effect on "
        "pretraining, and needs images that can be read in any order: in TensorFlow Datasets, only "
        "label subsets can.",
        once=False,
    )
    hold_labels_back: bool = option(
        False,
        "Never read the labels of the unlabelled images: pretraining then has no online "
        "classifier. (With or without it, no label reaches the encoder in pretraining.)",
    )
