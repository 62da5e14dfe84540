"""CAS, the classification accuracy score: what a classifier learns from generated images alone (docs/Evaluation.md).

Here too is how a classifier is trained, for the bundled one (tools/assets.py classifier) as for this score."""

import torch
import torch.nn.functional as F
from tqdm import tqdm

from ..core.checks import fast_bfloat16, pick_device, whole
from ..core.state import untouched
from ..data.images import to_float
from .classifier import Classifier, features
from .metrics import class_accuracy
from .names import images_like

EPOCHS, PER_CLASS = 8, 5000  # of the project's tables


def cas(train, test, epochs=EPOCHS, seed=0, device=None, progress=True):
    """Classification accuracy score (Ravuri and Vinyals 2019, arXiv 1905.10887): a new network of the evaluation
    classifier's architecture is trained on the images `train` alone and tested on the real images `test`.

    train: LabelledImages, generated ones; or real ones, which gives the value to compare with. test: LabelledImages of
    the same size and the same classes, matched by name. epochs: the budget; compare only equal epochs and equal counts.
    seed: of weights, order and augmentation; it fixes the score on the same machine with as many threads.

    Returns a dict: cas, the share in [0, 1] of test images that are classified right, cas_per_class, cas_images
    (trained on), cas_epochs, cas_test_images. InputError: other classes or sizes; epochs below 1."""
    test, told = images_like(train, test), "train a classifier" if progress else None
    batch = min(128, max(2, len(train) // 4))
    network = train_classifier(train, epochs, batch, seed=seed, device=device, progress=told)
    said = features(test.images, network)[1].argmax(axis=1)
    share, of_class = class_accuracy(said, test.labels, len(test.classes))
    counts = {"cas_images": len(train), "cas_epochs": int(epochs), "cas_test_images": len(test)}
    return {"cas": share, "cas_per_class": dict(zip(test.classes, of_class)), **counts}


@untouched
@torch.inference_mode(False)
@torch.enable_grad()
def train_classifier(train, epochs, batch=128, lr=0.2, weight_decay=5e-4, label_smoothing=0.1, seed=0, device=None,
                     progress=None):  # fmt: skip
    """A Classifier that learned `train` (LabelledImages), flipped and shifted; in eval mode, with `classes`.

    The learning rate rises to `lr` for a fifth of the time, then falls to 0; the weights are an average of the last 100
    steps', or of the last tenth where that is shorter. On a processor that is quick at bfloat16, products are computed
    in it. progress: text of a bar. InputError: epochs below 1; a batch below 2 or above the count of images."""
    device, epochs, batch = pick_device(device), whole("epochs", epochs), whole("batch", batch, 2, len(train))
    steps = epochs * (len(train) // batch)
    images, labels = torch.from_numpy(train.images).to(device), torch.from_numpy(train.labels).to(device)
    torch.manual_seed(seed)
    network = Classifier(len(train.classes)).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr, 0.9, weight_decay=weight_decay, nesterov=True)
    peak = 0.2 * steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: min(n / peak, (steps - n) / (steps - peak)))
    ema = torch.optim.swa_utils.get_ema_multi_avg_fn(1 - 1 / min(100, max(1, steps / 10)))
    average = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=ema, use_buffers=True)
    for step in tqdm(range(steps), desc=progress, unit="step", leave=False, disable=progress is None):
        if not step % (len(train) // batch):  # an epoch begins
            batches = torch.randperm(len(train), device=device).split(batch)
        rows = batches[step % (len(train) // batch)]
        x = shift_and_flip(to_float(images[rows]))
        with torch.autocast(device.type, torch.bfloat16, enabled=fast_bfloat16(device)):
            loss = F.cross_entropy(network(x), labels[rows], label_smoothing=label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        average.update_parameters(network)
    network = average.module.float().eval()
    network.classes = tuple(train.classes)
    return network


def shift_and_flip(x, pixels=2):
    """Random horizontal flip and shift of each image, reflecting at the border. x: (N, 3, R, R)."""
    theta = torch.eye(2, 3, device=x.device).repeat(len(x), 1, 1)  # (N, 2, 3)
    theta[:, 0, 0] -= 2 * torch.randint(2, (len(x),), device=x.device)
    theta[:, :, 2] = torch.randint(-pixels, pixels + 1, (len(x), 2), device=x.device) * 2 / (x.shape[-1] - 1)
    return F.grid_sample(x, F.affine_grid(theta, x.shape, align_corners=True), "nearest", "reflection", True)
