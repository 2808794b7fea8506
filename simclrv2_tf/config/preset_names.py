"""The presets by name, for help: known without the options, which take long to import."""

DEFAULT = "standard"

SUMMARIES = {
    "quick": "a small network for minutes on a laptop, to see whether all works",
    "standard": "network and epochs by the number of images; a GPU helps",
    "paper": "ResNet-50, 224 px, LARS, batch 4096, 800 epochs, as published",
}
