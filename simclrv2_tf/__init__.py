"""SimCLRv2 in Keras 3 and TensorFlow: pretrain, fine-tune, distill (arXiv 2006.10029)."""

__version__ = "0.1.0"
