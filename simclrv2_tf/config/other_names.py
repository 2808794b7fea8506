"""Common aliases of flags: `simclrv2-tf` accepts them, `run` suggests the flag."""

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
