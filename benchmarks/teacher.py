"""How fast the full-size StyleGAN2 generator is, beside the official implementation, in one run.

    python benchmarks/teacher.py --peer PATH        PATH: a checkout of NVlabs/stylegan2-ada-pytorch; none of it is ours
    python benchmarks/teacher.py --device cuda      ours alone, also in half precision, as a share of the device's peak
    ... --write docs/Teacher-Network.md             puts the table between the page's marks, too

Both networks get the same random weights, noise and labels. Rounds alternate (ours, theirs, ours, ...), so that
whatever else the machine does meets both; the ratio is that of the medians.
"""

import datetime
import os
import platform
import re
import statistics
import sys
import warnings
from pathlib import Path

import torch
import tyro
from gpu import matmul_peak, seconds

from gsoc_kd.core.files import InputError, replacing_file
from gsoc_kd.evaluation.table import cost
from gsoc_kd.networks.stylegan2 import StyleGAN2Generator, from_official

MARKS = re.compile(r"(<!-- generator speed: .*? -->\n).*?(<!-- end of generator speed -->)", re.DOTALL)
CIFAR = dict(
    z_dim=512,
    c_dim=10,
    w_dim=512,
    img_resolution=32,
    img_channels=3,
    mapping_kwargs=dict(num_layers=2),
    synthesis_kwargs=dict(channel_base=32768, channel_max=512, num_fp16_res=0, conv_clamp=256),
)


def official(path):
    """The official generator of the `cifar` configuration with random weights; noise strengths that are not 0."""
    if not (Path(path) / "training" / "networks.py").is_file():
        raise InputError(f"{path} is no checkout of github.com/NVlabs/stylegan2-ada-pytorch")
    sys.path.insert(0, str(path))
    from training.networks import Generator

    torch.manual_seed(0)
    network = Generator(**CIFAR).eval().requires_grad_(False)
    for name, parameter in network.named_parameters():
        if name.endswith("noise_strength"):
            parameter.fill_(0.1)
    return network


@torch.inference_mode()
def main(
    peer: Path | None = None,
    rounds: int = 7,
    batch: int = 32,
    device: str = "cpu",
    peak: float | None = None,
    write: Path | None = None,
):
    """Prints images a second.

    Args:
        peer: checkout of the official implementation to compare with, in float32 without its custom kernels.
        rounds: timed batches of each.
        batch: pictures a batch.
        device: cpu or cuda; on cuda also bfloat16 and float16 under autocast.
        peak: the device's TFLOP/s in half precision by its data sheet; default: what a matrix product reaches here.
        write: page with the marks.
    """
    if write and not MARKS.search(write.read_text(encoding="utf-8")):
        raise InputError(
            f"{write} has no block between <!-- generator speed: ... --> and <!-- end of generator speed -->"
        )
    warnings.filterwarnings("ignore", module="torch_utils")
    torch.manual_seed(0)
    z, y = torch.randn(batch, 512, device=device), torch.arange(batch, device=device) % 10
    ours = StyleGAN2Generator().eval()
    theirs = official(peer).to(device) if peer else None
    if theirs:
        ours.load_state_dict(from_official(theirs.state_dict()))
    ours = ours.to(device, memory_format=torch.channels_last)
    draws = {"ours": lambda: ours(z, y)}
    if theirs:
        one_hot = torch.nn.functional.one_hot(y, 10).float()
        options = dict(noise_mode="const", force_fp32=True, fused_modconv=True)  # its own in eval mode
        draws["official"] = lambda: theirs(z, one_hot, **options)
    if device == "cuda":
        for dtype in (torch.bfloat16, torch.float16):
            draws[f"ours, {str(dtype).removeprefix('torch.')}"] = in_half(ours, z, y, dtype)

    pictures = {name: draw().float() for name, draw in draws.items()}  # also warms up
    times = {name: [] for name in draws}
    for _ in range(rounds):
        for name, draw in draws.items():
            times[name].append(seconds(draw, device))

    macs = cost(ours)["macs"]
    where = torch.cuda.get_device_name() if device == "cuda" else f"{os.cpu_count()} CPU cores"
    lines = [
        "| generator | images/s | slowest to fastest round | GFLOP/s | largest difference from ours |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, taken in times.items():
        rate = batch / statistics.median(taken)
        line = (
            f"| {name} | {rate:,.1f} | {batch / max(taken):,.1f} to {batch / min(taken):,.1f} | "
            f"{rate * 2 * macs / 1e9:,.0f} | {(pictures[name] - pictures['ours']).abs().max():.1e} |"
        )
        if device == "cuda" and "float16" in name:
            top = peak * 1e12 if peak else matmul_peak(getattr(torch, name.split(", ")[1]))
            line = line[:-2] + (
                f", {rate * 2 * macs / top:.0%} of the {'stated' if peak else 'measured'} peak of "
                f"{top / 1e12:,.0f} TFLOP/s |"
            )
        lines.append(line)
    if theirs:
        lines += [
            "",
            f"Ours is {statistics.median(times['official']) / statistics.median(times['ours']):.1f} times as fast.",
        ]
    command = (
        "python benchmarks/teacher.py" + (" --peer FOLDER" if theirs else "") + f" --batch {batch} --rounds {rounds}"
    )
    lines += [
        "",
        f"Full size, {macs / 1e9:.2f} GMAC an image as convolutions are usually counted, batch {batch}, medians of "
        f"{rounds} rounds in turn, the same weights, noise and labels. `{command}`, {where} ({platform.machine()}), "
        f"PyTorch {torch.__version__.split('+')[0]}, {datetime.date.today()}.",
        "",
    ]
    text = "\n".join(lines)
    print(text)
    if write:
        page = write.read_text(encoding="utf-8")
        with replacing_file(write) as temporary:
            temporary.write_text(MARKS.sub(lambda m: m[1] + text + m[2], page), encoding="utf-8")


def in_half(network, z, y, dtype):
    """A call of the network in half precision."""

    def draw():
        with torch.autocast("cuda", dtype):
            return network(z, y)

    return draw


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except InputError as error:
        sys.exit(f"error: {error}")
