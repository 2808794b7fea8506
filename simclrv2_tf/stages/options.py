"""Options of the stages."""

import dataclasses

from simclrv2_tf import options
from simclrv2_tf.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainerOptions(options.Group, title="Pretraining"):
    """Pretraining beside its objective: predictor, micro-batches, and the online classifier."""

    micro_batch_size: int = option(
        0,
        "pretrain: images that a device passes through the network at a time; the loss stays that "
        "of the whole batch, in the memory of a small one and a third as much computation "
        "again. Batch norm then takes its statistics over these images. 0: the whole batch.",
        minimum=0,
    )
    predictor_hidden_dim: int = option(
        0,
        "byol and simsiam: width of the predictor's hidden layer; 0: that of the head's hidden "
        "layers with byol, a quarter of proj_out_dim with simsiam.",
        minimum=0,
    )
    lineareval_while_pretraining: bool = option(
        True,
        "Train a linear classifier beside the network while pretraining, for a running accuracy; "
        "its gradient never reaches the network.",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierOptions(options.Group, title="Fine-tuning and linear evaluation"):
    """What trains of a classifier on an encoder."""

    fine_tune_after_block: int = option(
        -1,
        "In finetune, train what comes after this block: -1 everything, 0 after the stem, 1 to 4 "
        "after that block group; 4 is linear evaluation where `ft_proj_selector` is 0: the layers "
        "of the projection head below the selected one always train in finetune.",
        minimum=-1,
        maximum=4,
    )
    zero_init_logits_layer: bool = option(False, "Start the classifier at zero.")
    linear_evaluation: bool = option(
        False,
        "semi_supervised: also linear evaluation on all labels, of the pretrained encoder and of "
        "the same encoder at random initialization.",
        once=True,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillerOptions(options.Group, title="Distillation"):
    """A student's teacher, and the parts of its loss."""

    teacher: str | None = option(
        None,
        "Whose class probabilities the student matches: the folder of a labelled run, a .keras "
        "model from images to logits, a SavedModel, or hf://OWNER/REPO on the Hugging Face Hub.",
        once=True,
    )
    pretrained_student: bool = option(
        False,
        "semi_supervised: start the self-distilled student from the pretrained encoder and a new "
        "classifier, which takes fewer epochs; not in the paper, whose students start from random "
        "weights.",
        once=True,
    )
    distill_alpha: float = option(
        1.0,
        "Weight of the distillation loss; 1 - distill_alpha weighs the cross-entropy on the "
        "labelled images. 1: unlabelled images only.",
        minimum=0,
        maximum=1,
    )
    distill_squared_temperature: bool = option(
        False, "Multiply the distillation loss by temperature^2; not in the paper."
    )
    labelled_batch_size: int = option(
        0,
        "Labelled images a step where distill_alpha is below 1, and in pseudo_label, mean_teacher "
        "and fixmatch, whose train_batch_size are the unlabelled ones. 0: train_batch_size, in "
        "fixmatch a seventh of it; or all of them where they are fewer.",
        minimum=0,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SemiSupervisedOptions(options.Group, title="Labelled training with unlabelled images"):
    """What unlabelled images weigh in pseudo_label, mean_teacher and fixmatch."""

    unlabelled_weight: float | None = option(
        None,
        "Weight of the unlabelled images' loss: by default 3 in pseudo_label, 100 in mean_teacher "
        "and 1 in fixmatch.",
        minimum=0,
    )
    confidence_threshold: float = option(
        0.95,
        "pseudo_label and fixmatch: probability that the most probable class of an unlabelled "
        "image needs to be its label; 0 takes all images.",
        minimum=0,
        maximum=1,
    )
    unlabelled_ramp: float = option(
        0.3,
        "pseudo_label and mean_teacher: share of the training in which the weight rises from 0, or "
        "nearly 0, to its full size.",
        positive=True,
        maximum=1,
    )
