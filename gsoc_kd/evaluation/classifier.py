"""The judge: a small CIFAR-10 classifier that scores where Inception cannot be had (docs/Evaluation.md).

It is trained on real images only, and no generator ever trains against it.
"""

import time
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from ..core.files import ASSETS, InputError
from ..core.weights import load_network, network_folder, provenance, save_network
from ..data.images import load_images, to_float
from ..training.devices import fast_bfloat16

EMBEDDED = ASSETS / "judge"


class Judge(nn.Module):
    """A narrow residual network like ResNet-9 (residual learning: He et al. 2015, arXiv 1512.03385).

    forward(x): x (N, 3, 32, 32) float in [-1, 1] -> logits (N, num_classes).
    features(x): (N, feature_width), the input of the last linear layer; CIFAR-FD and CIFAR-KID use them.
    """

    def __init__(self, num_classes=10, widths=(32, 64, 128, 128)):
        super().__init__()
        self.config = dict(num_classes=num_classes, widths=list(widths))
        self.num_classes, self.feature_width, self.resolution = num_classes, widths[-1], 32
        stem, *rest = widths
        self.stem = ConvNorm(3, stem)  # 32x32
        self.blocks = nn.Sequential(*(Block(i, o) for i, o in zip(widths, rest)))  # 16x16, 8x8, 4x4
        self.linear = nn.Linear(widths[-1], num_classes)

    def features(self, x):
        return self.blocks(self.stem(x)).amax((2, 3))

    def features_and_logits(self, x):
        features = self.features(x)
        return features, self.linear(features)

    def forward(self, x):
        return self.linear(self.features(x))


class ConvNorm(nn.Sequential):
    def __init__(self, width_in, width_out, pool=False):
        super().__init__(
            nn.Conv2d(width_in, width_out, 3, padding=1, bias=False),
            nn.MaxPool2d(2) if pool else nn.Identity(),
            nn.BatchNorm2d(width_out),
            nn.ReLU(),
        )


class Block(nn.Module):
    """Halves the resolution, then adds one residual convolution."""

    def __init__(self, width_in, width_out):
        super().__init__()
        self.down, self.residual = ConvNorm(width_in, width_out, pool=True), ConvNorm(width_out, width_out)

    def forward(self, x):
        x = self.down(x)
        return x + self.residual(x)


@lru_cache(maxsize=1)
def load_judge():
    """The embedded judge, in eval mode on the CPU."""
    return load_network(EMBEDDED, (Judge,))


def accuracy(judge, data, batch=500):
    """Share of `data` (LabelledImages) that the judge puts in the right class."""
    device = next(judge.parameters()).device
    right = 0
    with torch.inference_mode():
        for i in range(0, len(data), batch):
            said = judge(to_float(data.images[i : i + batch], device)).argmax(1).cpu()
            right += (said == torch.from_numpy(data.labels[i : i + batch])).sum().item()
    return right / len(data)


def train_judge(
    out=str(EMBEDDED),
    epochs: int = 15,
    batch: int = 128,
    lr: float = 0.2,
    weight_decay: float = 5e-4,
    label_smoothing: float = 0.1,
    seed: int = 0,
    root: str | None = None,
):
    """Trains the judge on CIFAR-10's training images and writes it in float16: 23 minutes on 2 CPU cores (provenance.json).

    SGD with Nesterov momentum and a learning rate that rises for a fifth of the time and then falls to zero;
    random flips and shifts by up to 2 pixels; the saved weights average the last epochs' steps.

    Args:
        out: folder for the trained judge; the embedded one by default.
        epochs: passes over the 50,000 training images.
        batch: images a step.
        lr: highest learning rate.
        weight_decay: L2 penalty on all weights.
        label_smoothing: share of the target spread over all classes.
        seed: of weights, order and augmentation.
        root: folder with CIFAR-10, as in load_images.

    Returns:
        The judge; its test accuracy stands in provenance.json.
    """
    if epochs < 1 or batch < 2:
        raise InputError(f"epochs must be at least 1 and batch at least 2, got {epochs} and {batch}")
    network_folder(out)  # refuses before the training, not after it
    train, test = load_images(split="train", root=root), load_images(split="test", root=root)
    if batch > len(train):
        raise InputError(f"a batch of {batch} needs at least as many images, {train.source} has {len(train)}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images, labels = torch.from_numpy(train.images).to(device), torch.from_numpy(train.labels).to(device)
    torch.manual_seed(seed)
    judge = Judge(len(train.classes)).to(device, memory_format=torch.channels_last)
    steps = len(train) // batch * epochs
    optimizer = torch.optim.SGD(judge.parameters(), lr, 0.9, weight_decay=weight_decay, nesterov=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min(s / (0.2 * steps), (steps - s) / (0.8 * steps))
    )
    average = torch.optim.swa_utils.AveragedModel(
        judge, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99), use_buffers=True
    )

    start, order = time.time(), None
    for step in (bar := tqdm(range(steps), desc="train the judge", unit="step")):
        i = step % (len(train) // batch)
        order = torch.randperm(len(train), device=device) if i == 0 else order
        rows = order[i * batch : (i + 1) * batch]
        x = shift_and_flip(to_float(images[rows]))
        with torch.autocast(device.type, torch.bfloat16, enabled=fast_bfloat16(device)):
            loss = F.cross_entropy(judge(x), labels[rows], label_smoothing=label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        average.update_parameters(judge)
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}")
    judge = average.module.eval()
    test_accuracy = accuracy(judge, test)
    save_network(
        judge.float(),
        out,
        dtype=torch.float16,
        provenance=provenance(
            command=f"gsoc-kd train-judge --epochs {epochs} --batch {batch} --lr {lr} "
            f"--weight-decay {weight_decay} --label-smoothing {label_smoothing} --seed {seed}",
            data=f"{train.source}, {len(train)} images; scored on {test.source}, {len(test)} images",
            seconds=time.time() - start,
            scores={"test_accuracy": test_accuracy},
        ),
    )
    print(f"judge: {test_accuracy:.2%} of {len(test)} test images right; written to {out}")
    return load_network(out, (Judge,))


def shift_and_flip(x, pixels=2):
    """Random horizontal flip and shift of each image, reflecting at the border. x: (N, 3, H, W)."""
    n, _, h, w = x.shape
    padded = F.pad(x, (pixels,) * 4, mode="reflect")
    top, left = torch.randint(2 * pixels + 1, (2, n, 1, 1), device=x.device)
    columns = torch.arange(w, device=x.device).expand(n, 1, w)
    flip = torch.rand(n, 1, 1, device=x.device) < 0.5
    columns = left + torch.where(flip, w - 1 - columns, columns)  # (N, 1, W)
    rows = top + torch.arange(h, device=x.device)[None, :, None]  # (N, H, 1)
    picked = padded.permute(0, 2, 3, 1)[torch.arange(n, device=x.device)[:, None, None], rows, columns]
    return picked.permute(0, 3, 1, 2)  # channels-last in memory
