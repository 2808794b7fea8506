"""Options of the stages."""

import dataclasses

from simclrv2_tf import options
from simclrv2_tf.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainerOptions(options.Group, title="Pretraining"):
    """Other options of pretraining: predictor, micro-batches and online classifier."""

    micro_batch_size: int = option(
        0,
        "pretrain: images that a device passes through the network at a time. The loss is still "
        "computed over the whole batch, with the memory of a small batch and 4/3 of the "
        "computation. Batch norm computes its statistics over these images. 0: the whole batch.",
        minimum=0,
    )
    predictor_hidden_dim: int = option(
        0,
        "byol and simsiam: width of the predictor's hidden layer; 0: the width of the head's "
        "hidden layers for byol, a quarter of proj_out_dim for simsiam.",
        minimum=0,
    )
    lineareval_while_pretraining: bool = option(
        True,
        "Train a linear classifier alongside the network during pretraining, for a running "
        "accuracy. Its gradient never reaches the network.",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierOptions(options.Group, title="Fine-tuning and linear evaluation"):
    """Which parts of a classifier on an encoder are trained."""

    fine_tune_after_block: int = option(
        -1,
        "In finetune, train the layers after this block: -1 everything, 0 after the stem, 1 to 4 "
        "after that block group. 4 is linear evaluation if `ft_proj_selector` is 0; finetune "
        "always trains the layers of the projection head up to the selected one.",
        minimum=-1,
        maximum=4,
    )
    zero_init_logits_layer: bool = option(False, "Start the classifier at zero.")
    linear_evaluation: bool = option(
        False,
        "semi_supervised: add linear evaluation on all labels, of the pretrained encoder and of "
        "the same encoder at random initialization.",
        once=True,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillerOptions(options.Group, title="Distillation"):
    """A student's teacher, and the terms of its loss."""

    teacher: str | None = option(
        None,
        "Teacher, whose class probabilities the student matches: the folder of a labelled run, a "
        ".keras "
        "model from images to logits, a SavedModel, or hf://OWNER/REPO on the Hugging Face Hub.",
        once=True,
    )
    pretrained_student: bool = option(
        False,
        "semi_supervised: start the self-distilled student from the pretrained encoder and a new "
        "classifier, which needs fewer epochs; not in the paper, whose students start from random "
        "weights.",
        once=True,
    )
    distill_alpha: float = option(
        1.0,
        "Weight of the distillation loss; 1 - distill_alpha is the weight of the cross-entropy on "
        "the labelled images. 1: only unlabelled images.",
        minimum=0,
        maximum=1,
    )
    distill_squared_temperature: bool = option(
        False, "Multiply the distillation loss by temperature^2; not in the paper."
    )
    labelled_batch_size: int = option(
        0,
        "Labelled images per step if distill_alpha is below 1, and in pseudo_label, mean_teacher "
        "and fixmatch, whose train_batch_size counts the unlabelled images. 0: train_batch_size, "
        "in fixmatch a seventh of it; at most the number of labelled images.",
        minimum=0,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SemiSupervisedOptions(options.Group, title="Labelled training with unlabelled images"):
    """The weight of unlabelled images in pseudo_label, mean_teacher and fixmatch."""

    unlabelled_weight: float | None = option(
        None,
        "Weight of the unlabelled images' loss; default: 3 in pseudo_label, 100 in mean_teacher, 1 "
        "in fixmatch.",
        minimum=0,
    )
    confidence_threshold: float = option(
        0.95,
        "pseudo_label and fixmatch: smallest probability at which the most probable class of an "
        "unlabelled image becomes its label; 0: use all images.",
        minimum=0,
        maximum=1,
    )
    unlabelled_ramp: float = option(
        0.3,
        "pseudo_label and mean_teacher: share of the training over which the weight rises from 0, "
        "or almost 0, to its full value.",
        positive=True,
        maximum=1,
    )
