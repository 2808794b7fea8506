"""The peer: SimCLRv2's pretraining step in idiomatic PyTorch.

The networks, losses, online classifier and update of `simclrv2_tf`, in `channels_last`, with
autocast for bfloat16, fused Adam or LARS with `foreach` operations, and the metrics read after each
step.

Command: python benchmarks/speed/pytorch_step.py CASE PRECISION (a worker of step.py)
"""

import os
import sys

import torch
import torch.nn.functional as F
from cases import CASES, NUM_CLASSES, TEMPERATURE, Case
from torch import nn
from worker import serve

BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


def conv(inputs, outputs, kernel=1, stride=1):
    """A convolution without bias."""
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=(kernel - 1) // 2, bias=False)


def conv_bn(inputs, outputs, kernel=1, stride=1, relu=True):
    """A convolution, batch norm and, by default, a ReLU."""
    layers = [conv(inputs, outputs, kernel, stride), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if relu else []))


class SelectiveKernel(nn.Module):
    """Two streams of 3x3 convolutions, mixed channel by channel (arXiv 1903.06586)."""

    def __init__(self, inputs, filters, stride, ratio):
        super().__init__()
        self.filters = filters
        self.streams = conv_bn(inputs, 2 * filters, 3, stride)
        hidden = max(int(filters * ratio), 32)
        self.squeeze = conv_bn(filters, hidden)
        self.mix = conv(hidden, 2 * filters)

    def forward(self, x):
        streams = self.streams(x).unflatten(1, (2, self.filters))
        pooled = streams.sum(1).mean((2, 3), keepdim=True)
        weights = self.mix(self.squeeze(pooled)).unflatten(1, (2, self.filters))
        return (streams * weights.float().softmax(1).to(streams.dtype)).sum(1)


class Block(nn.Module):
    """A basic block or a bottleneck, plus the shortcut."""

    def __init__(self, inputs, filters, stride, project, case: Case):
        super().__init__()
        outputs = filters * (4 if case.depth >= 50 else 1)
        if case.depth < 50:
            layers = [conv_bn(inputs, filters, 3, stride), conv_bn(filters, filters, 3, relu=False)]
        else:
            middle = (
                SelectiveKernel(filters, filters, stride, case.sk_ratio)
                if case.sk_ratio
                else conv_bn(filters, filters, 3, stride)
            )
            layers = [conv_bn(inputs, filters), middle, conv_bn(filters, outputs, relu=False)]
        self.residual = nn.Sequential(*layers)
        self.shortcut = nn.Identity()
        if project and case.sk_ratio:
            # At stride 1 the last row and column count twice, as without padding.
            pad = nn.ReplicationPad2d((0, 1, 0, 1)) if stride == 1 else nn.ZeroPad2d((0, 1, 0, 1))
            pool = nn.AvgPool2d(2, stride)
            self.shortcut = nn.Sequential(pad, pool, conv_bn(inputs, outputs, relu=False))
        elif project:
            self.shortcut = conv_bn(inputs, outputs, 1, stride, relu=False)

    def forward(self, x):
        return F.relu(self.residual(x).add_(self.shortcut(x)), inplace=True)


def encoder(case: Case) -> tuple[nn.Module, int]:
    """The encoder and the width of its representation."""
    width = int(64 * case.width)
    if case.stem == "cifar":
        layers = [conv_bn(3, width, 3)]
    elif case.sk_ratio:
        layers = [conv_bn(3, width // 2, 3, 2), conv_bn(width // 2, width // 2, 3)]
        layers += [conv_bn(width // 2, width, 3)]
    else:
        layers = [conv_bn(3, width, 7, 2)]
    if case.stem == "imagenet":
        layers.append(nn.MaxPool2d(3, 2, 1))
    inputs = width
    for group, count in enumerate(BLOCKS[case.depth]):
        filters = int(64 * 2**group * case.width)
        for index in range(count):
            stride = 2 if group and index == 0 else 1
            layers.append(Block(inputs, filters, stride, index == 0, case))
            inputs = filters * (4 if case.depth >= 50 else 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), inputs


class Network(nn.Module):
    """Encoder, projection head of three layers, and online classifier."""

    def __init__(self, case: Case):
        super().__init__()
        self.encoder, width = encoder(case)
        layers = []
        for outputs in (width, width):
            layers += [nn.Linear(width, outputs, bias=False), nn.BatchNorm1d(outputs)]
            layers += [nn.ReLU(inplace=True)]
        layers += [nn.Linear(width, 128, bias=False), nn.BatchNorm1d(128)]
        layers[-1].bias.requires_grad_(False)  # the last batch norm scales but does not shift
        self.head = nn.Sequential(*layers)
        self.classifier = nn.Linear(width, NUM_CLASSES)

    def forward(self, views):
        representations = self.encoder(views)
        with torch.autocast("cpu", enabled=False):
            logits = self.classifier(representations.detach().float())
        return self.head(representations).float(), logits


class LARS(torch.optim.Optimizer):
    """LARS with `foreach` operations, same as `simclrv2_tf.optimizers.LARS`.

    Args:
        adapted: Parameters with decay and adapted rates.
        decayed: Parameters with decay only.
        others: All other parameters.
    """

    def __init__(self, adapted, decayed, others, rate=0.1, momentum=0.9, decay=1e-4, eta=1e-3):
        super().__init__([{"params": of} for of in (adapted, decayed, others)], {})
        self.rate, self.momentum, self.decay, self.eta = rate, momentum, decay, eta
        self.buffers = [[torch.zeros_like(p) for p in g["params"]] for g in self.param_groups]

    @torch.no_grad()
    def step(self):
        for index, (group, buffers) in enumerate(zip(self.param_groups, self.buffers, strict=True)):
            parameters = group["params"]
            gradients = [p.grad for p in parameters]
            if index < 2:
                gradients = torch._foreach_add(gradients, parameters, alpha=self.decay)
            if index == 0:
                p_norm = torch.stack(torch._foreach_norm(parameters))
                g_norm = torch.stack(torch._foreach_norm(gradients))
                trust = torch.where((p_norm > 0) & (g_norm > 0), self.eta * p_norm / g_norm, 1.0)
                torch._foreach_mul_(gradients, list((self.rate * trust).unbind()))
            else:
                gradients = torch._foreach_mul(gradients, self.rate)
            torch._foreach_mul_(buffers, self.momentum)
            torch._foreach_add_(buffers, gradients)
            torch._foreach_sub_(parameters, buffers)


def optimizer_of(case: Case, network: nn.Module) -> torch.optim.Optimizer:
    """Returns the optimizer of a case.

    Batch norm parameters are not decayed. LARS adapts neither these nor the classifier, whose
    kernel is still decayed.
    """
    trained = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    kernels = [p for name, p in trained if p.ndim > 1 and "classifier" not in name]
    classifier = [p for name, p in trained if "classifier" in name]
    norms = [p for name, p in trained if p.ndim == 1 and "classifier" not in name]
    if case.optimizer == "adam":
        groups = [{"params": kernels + classifier, "weight_decay": 1e-6}, {"params": norms}]
        return torch.optim.Adam(groups, 1e-3, fused=True)
    return LARS(kernels, classifier[:1], classifier[1:] + norms)


def nt_xent(embeddings):
    """Returns the loss, and the accuracy and entropy of identifying the other view."""
    embeddings = F.normalize(embeddings)
    half = len(embeddings) // 2
    similarities = embeddings @ embeddings.T / TEMPERATURE
    similarities.fill_diagonal_(float("-inf"))
    targets = torch.arange(2 * half).roll(half)
    loss = F.cross_entropy(similarities, targets)
    with torch.no_grad():
        views = similarities[:half, half:]
        accuracy = (views.argmax(1) == torch.arange(half)).float().mean()
        log_probabilities = views.log_softmax(1)
        entropy = -(log_probabilities.exp() * log_probabilities).sum(1).mean()
    return 2 * loss, accuracy, entropy


def main():
    """Serves the times of steps."""
    case, precision = CASES[sys.argv[1]], sys.argv[2]
    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count())
    network = Network(case).to(memory_format=torch.channels_last).train()
    optimizer = optimizer_of(case, network)
    views = [torch.rand(case.batch, 3, case.size, case.size) for _ in range(2)]
    views = [view.to(memory_format=torch.channels_last) for view in views]
    labels = torch.randint(NUM_CLASSES, (case.batch,)).repeat(2)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "mixed_bfloat16"):
            embeddings, logits = network(torch.cat(views))
        loss, accuracy, entropy = nt_xent(embeddings)
        probe = F.cross_entropy(logits, labels)
        (loss + probe).backward()
        optimizer.step()
        probe_accuracy = (logits.argmax(1) == labels).float().mean()
        return [x.item() for x in (loss, accuracy, entropy, probe, probe_accuracy)]

    print("parameters", sum(p.numel() for p in network.parameters() if p.requires_grad), flush=True)
    serve(step)


if __name__ == "__main__":
    main()
