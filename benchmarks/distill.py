"""Pairs a second of the training loop, against the original code of 2022 if a checkout of it is given, in one run.

    git clone https://github.com/ThanosM97/gsoc2022-openvino peer && git -C peer checkout ef0124f
    python benchmarks/distill.py --peer peer [--rounds 8] [--write docs/Training.md]
    python benchmarks/distill.py --device cuda --rounds 50          also compiled, and as a share of the device's peak
    python benchmarks/distill.py --memory --bfloat16 False          only the peak of resident memory, in MB

What runs is `distill` itself, with the preset `distylegan-2022`; its progress bar is the clock. After every ten
steps of ours come ten of the original's `update_D` and `update_G`, on batches that already lie in memory: its
decoding of a PNG file a pair is left out, which is in its favour. Pairs and real images are noise: it costs the same.
"""

import contextlib
import datetime
import importlib
import multiprocessing
import platform
import resource
import subprocess
import sys
import tempfile
import types
from dataclasses import replace
from pathlib import Path
from statistics import median
from unittest import mock

import numpy as np
import torch
import tyro
from gpu import matmul_peak, now, step_operations
from gsoc_kd.pairs.folder import load_pairs, save_pairs

from gsoc_kd.core.weights import provenance
from gsoc_kd.data.images import LabelledImages, to_float
from gsoc_kd.training import runs
from gsoc_kd.training.distill import DistillConfig

module = importlib.import_module("gsoc_kd.training.distill")
CONFIG = DistillConfig.preset("distylegan-2022")
STEPS = 10  # a round: every tenth step has the adversarial terms
WHOLE = 150 * 50_000  # pairs that the training of 2022 shows
TERMS = {
    "disc": ("D/Teacher Loss", "D/Student Loss"),
    "disc_gan": ("D/Real Loss", "D/Random Loss"),
    "pixel": ("G/Pixel Loss",),
    "feature": ("G/Feature Loss",),
    "adversarial": ("G/Adversarial Distillation Loss",),
    "gan": ("G/Adversarial GAN Loss",),
}


def main(
    peer: Path | None = None,
    pairs: int = 50_000,
    rounds: int = 8,
    device: str = "cpu",
    write: Path | None = None,
    memory: bool = False,
    bfloat16: bool | None = None,
):
    """Times the loop of `distill` in float32 and bfloat16, on CUDA also compiled.

    Args:
        peer: a checkout of the original code, to be timed in turn and to be compared loss by loss.
        pairs: so many pairs and real images.
        rounds: of ten steps each; the first is not counted.
        device: cpu or cuda.
        write: a page whose block between the markers `speed` is replaced by the table.
        memory: only train three rounds, and print the peak of resident memory in MB (of 1,000,000 bytes).
        bfloat16: what `memory` trains in; by default what the device gains from.
    """
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        maker = multiprocessing.get_context("spawn").Process(target=noise, args=(folder, pairs))
        maker.start(), maker.join()  # on its own, so that its memory is not counted as the training's
        data = load_pairs(folder / "pairs")
        real = LabelledImages(np.load(folder / "real.npy"), data.labels[::-1].copy(), data.classes, "noise")
        if memory:
            clock(data, real, folder / "memory", 3 * STEPS, device, bfloat16)
            print(peak_memory() // 10**6)
            return
        original = Original(peer, device) if peer else None
        lines = [] if original is None else [compare_losses(original, data, real, folder / "losses", device)]
        best = 0.0
        kinds = {
            "float32": dict(bfloat16=False),
            "bfloat16": dict(bfloat16=True),
            "bfloat16, compiled": dict(bfloat16=True, compile=True),
        }
        for name, changes in list(kinds.items())[: 2 if device == "cpu" else 3]:
            ours, theirs = clock(data, real, folder / name, rounds * STEPS, device, **changes, original=original)
            row, best = [f"`distill`, {name}", f"{pairs_a_second(ours):.1f}"], max(best, pairs_a_second(ours))
            if original:
                row += [f"{pairs_a_second(theirs):.1f}", f"{median(theirs[1:]) / median(ours[1:]):.2f}"]
            lines.append(row)
        lines.append(whole(best, data, real, folder / "count", device))
    for dtype, flag in ("bfloat16", "True"), ("float32", "False"):
        own = [sys.executable, __file__, "--memory", "--bfloat16", flag, "--pairs", str(pairs), "--device", device]
        peak = int(subprocess.run(own, capture_output=True, text=True, check=True).stdout.split()[-1])
        lines.append(f"Peak of resident memory with {pairs:,} pairs and as many real images, {dtype}: {peak:,} MB.")
    text = report(lines, rounds, device)
    print(text)
    if write:
        page = write.read_text(encoding="utf-8")
        before, rest = page.split("<!-- speed -->\n")
        write.write_text(
            f"{before}<!-- speed -->\n{text}\n<!-- /speed -->{rest.split('<!-- /speed -->')[1]}", encoding="utf-8"
        )


def peak_memory():
    """Bytes that were resident at most since this program began. On Linux not from getrusage, which goes on counting
    from the process that started this one."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def noise(folder, pairs):
    """Writes pairs of noise, and as many real images."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (pairs, 32, 32, 3), np.uint8), np.arange(pairs) % 10
    save_pairs(x, y, rng.standard_normal((pairs, 512), np.float32).astype(np.float16), folder / "pairs")
    np.save(folder / "real.npy", x[::-1])


# ---------------------------------------------------------------- ours


def clock(pairs, real, out, steps, device, bfloat16, compile=False, original=None):
    """Seconds of every ten steps of `distill`, and of ten steps of the original's that follow each of them."""
    ours, theirs = [], []

    class Bar:
        def __init__(self, **_):
            self.step, self.start = 0, now(device)

        def update(self, _):
            self.step += 1
            if self.step % STEPS == 0:
                ours.append(now(device) - self.start)
                if original:
                    theirs.append(original.round())
                self.start = now(device)

        def set_postfix(self, _):
            pass

        close = set_postfix_str = lambda self: None

    kimg = steps * CONFIG.batch / 1000
    with mock.patch.object(module, "tqdm", Bar):
        module.distill(
            pairs, replace(CONFIG, kimg=kimg, tick_kimg=kimg, bfloat16=bfloat16, compile=compile), out, real, device
        )
    return ours, theirs


def pairs_a_second(rounds):
    return STEPS * CONFIG.batch / median(rounds[1:])


def whole(rate, pairs, real, out, device):
    """What a rate in pairs a second means for the whole training, and on a GPU for the device."""
    kimg = STEPS * CONFIG.batch / 1000
    short = replace(CONFIG, kimg=kimg, tick_kimg=kimg, bfloat16=False)
    work = step_operations(module, lambda: module.distill(pairs, short, out, real, device), STEPS) / CONFIG.batch
    told = (
        f"At the highest rate {WHOLE:,} pairs, 150 epochs of 50,000, take {WHOLE / rate / 60:,.1f} minutes; "
        f"{work / 1e9:.2f} GFLOP a pair, {rate * work / 1e12:,.2f} TFLOP/s"
    )
    if device == "cpu":
        return told + "."
    top = matmul_peak(torch.bfloat16)
    return told + f", {rate * work / top:.1%} of the {top / 1e12:,.0f} TFLOP/s of a large bfloat16 matrix product."


# ---------------------------------------------------------------- theirs


class Original:
    """The original's trainer with its own networks, losses and optimisers, on one batch in memory."""

    def __init__(self, path, device):
        if not (path / "generation" / "distylegan.py").is_file():
            raise SystemExit(
                f"{path} is not a checkout of ThanosM97/gsoc2022-openvino: it has no generation/distylegan.py"
            )
        sys.path.insert(0, str(path / "generation"))
        tensorboard = types.SimpleNamespace(SummaryWriter=None)  # it is imported, and a step does not need it
        stub = sys.modules.setdefault("torch.utils.tensorboard", tensorboard) is tensorboard
        self.code, self.device = importlib.import_module("distylegan"), device
        if stub:
            del sys.modules["torch.utils.tensorboard"]
        self.start()
        rng = torch.Generator().manual_seed(0)
        x, real = (torch.rand(CONFIG.batch, 3, 32, 32, generator=rng).mul(2).sub(1).to(device) for _ in range(2))
        z = torch.randn(CONFIG.batch, 512, generator=rng).to(device)
        y = torch.nn.functional.one_hot(torch.arange(CONFIG.batch) % 10, 10).float().to(device)
        self.batch = z, x, y, real, y

    def start(self):
        """New weights."""
        t = self.trainer = self.code.DiStyleGAN(device=self.device)
        t.batch_size = CONFIG.batch
        t.netG, t.netD = t.load_networks()
        t.optimizerG, t.optimizerD = t._DiStyleGAN__define_optimizers(CONFIG.lr, CONFIG.disc_lr, CONFIG.betas[0])
        t.criterionG = self.code.GLoss(t.config["lambda_pixel"], t.config["lambda_ganG"])
        t.criterionD = self.code.DLoss(t.config["lambda_ganD"])

    def step(self, z, x, y, real, y_real, adversarial):
        """What its loop does with a batch: the losses, by its names."""
        log_disc, features = self.trainer.update_D(z, x, y, real, y_real)
        return log_disc | self.trainer.update_G(z, x, features, y, y_real, adversarial)

    def round(self):
        start = now(self.device)
        for step in range(STEPS):
            self.step(*self.batch, adversarial=step + 1 == STEPS)
        return now(self.device) - start

    def take_weights(self, student, disc):
        """Copies our networks' weights into its own: the same tensors in the same order."""

        def same(ours, theirs):
            for a, b in zip(ours, theirs, strict=True):
                b.data.copy_(a.data)

        same(student.parameters(), self.trainer.netG.parameters())
        layers = [*disc.convs, disc.project]
        theirs = [*(block[0] for block in self.trainer.netD.netD), self.trainer.netD.project[0]]
        for a, b in zip(layers, theirs, strict=True):
            norm = a.parametrizations.weight
            same([norm.original, norm[0]._u, norm[0]._v], [b.weight_orig, b.weight_u, b.weight_v])
            if a.bias is not None:
                same([a.bias], [b.bias])
        same([disc.output.weight], [self.trainer.netD.output.weight])


def compare_losses(original, pairs, real, out, device):
    """One step of both from the same weights, on the same batch and noise, with all terms: the greatest difference.

    Spectral norm's power iteration stands still in both, since ours iterates once a step and the original at every
    forward pass.
    """
    c, make = replace(CONFIG, adversarial_every=1, kimg=0.128, tick_kimg=0.128, bfloat16=False), module.make_networks

    def frozen(*args):
        student, disc = make(*args)
        for layer in (*disc.convs, disc.project):
            layer.parametrizations.weight[0].n_power_iterations = 0
        original.start()
        original.take_weights(student, disc)
        for layer in original.trainer.netD.modules():
            for hook in layer._forward_pre_hooks.values():
                hook.n_power_iterations = 0
        return student, disc

    with mock.patch.object(module, "make_networks", frozen):
        ours = module.distill(pairs, c, out, real, device).stats[0]
    rows, fresh = (runs.Batches(len(pairs), c.batch, c.seed, stream=stream)(0).numpy() for stream in (0, 1))
    noise = torch.randn(c.batch, 512, generator=runs.rng(c.seed, 0, device), device=device)

    def hot(labels):
        return torch.nn.functional.one_hot(torch.from_numpy(labels), 10).float().to(device)

    with mock.patch.object(torch, "randn", lambda *_: noise):
        log = original.step(
            torch.from_numpy(pairs.latents[rows]).float().to(device),
            to_float(pairs.images[rows]).to(device),
            hot(pairs.labels[rows]),
            to_float(real.images[fresh]).to(device),
            hot(real.labels[fresh]),
            True,
        )
    original.start()
    differences = {name: abs(ours[name] - sum(log[part] for part in parts)) for name, parts in TERMS.items()}
    worst = max(differences, key=differences.get)
    if not differences[worst] < 1e-4:
        raise SystemExit(f"the losses differ: {differences}")
    return (
        f"The same losses to 1e-4 from the same weights and batch: {len(TERMS)} terms, greatest difference "
        f"{differences[worst]:.1e} ({worst})."
    )


# ---------------------------------------------------------------- what is said


def report(lines, rounds, device):
    head = ["", "pairs/s", "the original, pairs/s", "ratio"]
    rows = [line for line in lines if isinstance(line, list)]
    head = head[: len(rows[0])]
    table = [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows)]
    where = provenance("", "")["hardware"] if device != "cpu" else f"{torch.get_num_threads()} CPU cores"
    sets = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in _cpu_flags()]
    told = [line for line in lines if isinstance(line, str)]
    return "\n".join(
        [
            *table,
            "",
            *told,
            f"Batch {CONFIG.batch}, medians of {rounds - 1} rounds of {STEPS} steps, in turn "
            f"(`--rounds {rounds}`); {where} ({platform.machine()}; {', '.join(sets) or 'no vector sets known'}), "
            f"PyTorch {torch.__version__.split('+')[0]}, {datetime.date.today().isoformat()}.",
        ]
    )


def _cpu_flags():
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return line.split()
    return []


if __name__ == "__main__":
    tyro.cli(main)
