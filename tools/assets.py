"""What only the authors run: it remakes what gsoc_kd/assets holds and the tables that tell of it. All need CIFAR-10.

python tools/assets.py embed --run runs/assets/student --name student
python tools/assets.py results, or calibrate, judge (the classifier that scores), and after that reference
"""

import sys
import time
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
import tyro
from tqdm import tqdm

from gsoc_kd.core.checks import fast_bfloat16, pick_device, whole
from gsoc_kd.core.figures import save_png, side_by_side
from gsoc_kd.core.files import ASSETS, write_json
from gsoc_kd.core.weights import load_network, network_folder, provenance, save_network
from gsoc_kd.data.images import load_images, to_float
from gsoc_kd.deployment import calibrate as calibration
from gsoc_kd.evaluation import Judge, accuracy, compute_reference, evaluate, floor_row, load_judge, row, table
from gsoc_kd.evaluation.publish import publish
from gsoc_kd.pairs import draw_latents
from gsoc_kd.teachers import load_teacher

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
from pages import check_block, main_program, write_block, written_by


def embed(run: Path, name: Literal["student", "teacher"] = "student"):
    """Puts the generator of a run of `distill` or `pretrain`, or of a network's folder, into the package, scored."""
    publish(run, ASSETS / name)


def results():
    """Scores both bundled networks anew, writes the block `results` of two pages, and shows both on the same noise."""
    for page in ("README.md", "docs/Results.md"):
        check_block(page, "results")
    rows, shown = [floor_row()], []
    for name in ("teacher", "student"):
        generator = load_teacher(ASSETS / name)
        rows.append(row(f"embedded {name}", generator, evaluate(generator)))
        y = torch.arange(20) % generator.num_classes
        shown.append(generator(draw_latents(7, 0, 20, generator.z_dim), y))
    save_png(side_by_side(*shown, columns=10, scale=3), "docs/teacher-and-student.png", max_kb=100)
    print(text := f"{table(rows)} {written_by('tools/assets.py results')}")
    for page in ("README.md", "docs/Results.md"):
        write_block(page, "results", text)


def calibrate(draws: int = 5, images: int = 300, seed: int = 2000, page: Path = Path("docs/Deployment.md")):
    """Measures what INT8 costs the classifier, by what calibrated it, for assets/calibration.json and the page."""
    check_block(page, "calibration")
    real = load_images(), load_images(split="test")
    write_json(calibration.TABLE, result := calibration.calibrate(*real, draws=draws, images=images, seed=seed))
    write_block(page, "calibration", text := calibration.table(result))
    print(text)


def reference(folder: Path = ASSETS):
    """Measures the real images that scores compare with, as the classifier sees them."""
    made = compute_reference(load_images(), load_images(split="test"), load_judge(), folder)
    print(f"{folder}: {made.overall.count:,} real images; floor CIFAR-FD {made.floor['cifar_fd']}")


def judge(out: Path = ASSETS / "judge", epochs: int = 15, batch: int = 128, lr: float = 0.2,
          weight_decay: float = 5e-4, label_smoothing: float = 0.1, seed: int = 0):  # fmt: skip
    """Trains the classifier on CIFAR-10's training images, flipped and shifted, and writes it in float16: 23 minutes on
    2 CPU cores. The learning rate rises for a fifth of the time, then falls; weights average the last epochs'."""
    asked = {name: value for name, value in locals().items() if name != "out"}
    network_folder(out)  # refuses before the training, not after it
    train, test, device = load_images(), load_images(split="test"), pick_device()
    steps = whole("epochs", epochs) * (len(train) // whole("batch", batch, 2, len(train)))
    images, labels = torch.from_numpy(train.images).to(device), torch.from_numpy(train.labels).to(device)
    torch.manual_seed(seed)
    network = Judge(len(train.classes)).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr, 0.9, weight_decay=weight_decay, nesterov=True)
    peak, start = 0.2 * steps, time.time()
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: min(n / peak, (steps - n) / (steps - peak)))
    ema = torch.optim.swa_utils.get_ema_multi_avg_fn(0.99)
    average = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=ema, use_buffers=True)
    for step in tqdm(range(steps), desc="train the judge", unit="step"):
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
    scores = {"test_accuracy": accuracy(network, test)}
    command = "python tools/assets.py judge " + " ".join(f"--{name.replace('_', '-')} {asked[name]}" for name in asked)
    data = f"{train.source}, {len(train)} images; scored on {test.source}, {len(test)} images"
    save_network(network, out, provenance(command, data, time.time() - start, scores), torch.float16)
    print(f"{out}: {scores['test_accuracy']:.2%} of {len(test)} test images right")
    return load_network(out, (Judge,))


def shift_and_flip(x, pixels=2):
    """Random horizontal flip and shift of each image, reflecting at the border. x: (N, 3, R, R)."""
    theta = torch.eye(2, 3, device=x.device).repeat(len(x), 1, 1)  # (N, 2, 3)
    theta[:, 0, 0] -= 2 * torch.randint(2, (len(x),), device=x.device)
    theta[:, :, 2] = torch.randint(-pixels, pixels + 1, (len(x), 2), device=x.device) * 2 / (x.shape[-1] - 1)
    return F.grid_sample(x, F.affine_grid(theta, x.shape, align_corners=True), "nearest", "reflection", True)


if __name__ == "__main__":
    commands = (embed, results, calibrate, judge, reference)
    main_program(tyro.extras.subcommand_cli_from_dict, {command.__name__: command for command in commands})
