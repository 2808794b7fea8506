"""A program: the outputs of torchvision's ResNet-50, given weights that this package exported.

`python -m helpers.torchvision_oracle WEIGHTS IMAGES LAYERS OUTPUTS`, with LAYERS of the projection
head before the classifier. The lines come from docs/tf_hub.md. PyTorch and TensorFlow in one
process end it by a fault.
"""

import sys

import numpy as np
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

if __name__ == "__main__":
    weights, images, layers, outputs = sys.argv[1:]
    state = load_file(weights)
    model = torchvision.models.resnet50(num_classes=5)
    model.maxpool = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, 2))
    hidden = []
    for k in range(int(layers)):
        width, wide = state[f"fc.{3 * k}.weight"].shape
        hidden += [nn.Linear(wide, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
    if hidden:
        model.fc = nn.Sequential(*hidden, nn.Linear(width, 5))
    model.load_state_dict(state)
    with torch.no_grad():
        found = model.eval()(torch.tensor(np.load(images)).permute(0, 3, 1, 2))
    np.save(outputs, found.numpy())
