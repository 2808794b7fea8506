"""The presets by name, for help: separate from the options, which take long to import."""

DEFAULT = "standard"

SUMMARIES = {
    "quick": "a small network, minutes on a laptop, to see whether everything works",
    "standard": "network and epochs chosen by the number of images; a GPU helps",
    "paper": "ResNet-50, 224 px, LARS, batch 4096, 800 epochs, as published",
}
