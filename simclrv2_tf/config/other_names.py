"""Names that people type for a flag, and the flag: `simclrv2-tf` takes them, `run` suggests it."""

OTHER_NAMES = {
    "batch": "train_batch_size",
    "batch_size": "train_batch_size",
    "data": "dataset",
    "depth": "resnet_depth",
    "epochs": "train_epochs",
    "lr": "learning_rate",
    "output": "model_dir",
    "output_dir": "model_dir",
    "steps": "train_steps",
    "wd": "weight_decay",
    "width": "width_multiplier",
}
