"""Our reading of official files against the official code itself, on the same noise, labels and truncation.

    python benchmarks/official.py --peer FOLDER

FOLDER is a checkout of https://github.com/NVlabs/stylegan2-ada-pytorch (commit d72cc7d). In its own process, that code makes
a generator of the `cifar` configuration (or another size) with random weights and float16 layers, writes it as
its training writes snapshots, a copy of each network and of its augmentation, and draws pictures. Ours reads the file
without that code and draws the same ones.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import tyro
from gsoc_kd.teachers.load import load_teacher
from gsoc_kd.teachers.official import convert, read_official

OFFICIAL = r"""
import copy, json, pickle, sys
import numpy as np, torch, dnnlib
from training.augment import AugmentPipe
from training.networks import Discriminator, Generator
file, pictures, args = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
torch.manual_seed(args["seed"])
sizes = dict(c_dim=args["classes"], img_resolution=args["resolution"], img_channels=3)
kinds = dnnlib.EasyDict(channel_base=args["channel_base"], channel_max=512, num_fp16_res=args["fp16"],
                        conv_clamp=256)
G = Generator(z_dim=512, w_dim=512, mapping_kwargs=dnnlib.EasyDict(num_layers=args["layers"]),
              synthesis_kwargs=kinds, **sizes)
for name, value in G.named_parameters():      # as if trained: no zeros, so that nothing goes unnoticed
    if name.endswith("noise_strength") or name.endswith("bias"):
        value.data += 0.3 * torch.randn_like(value)
G.mapping.w_avg += 0.3 * torch.randn_like(G.mapping.w_avg)
G = G.eval().requires_grad_(False)
D = Discriminator(**sizes, **kinds, architecture="orig").eval().requires_grad_(False)
training = dnnlib.EasyDict(class_name="training.dataset.ImageFolderDataset", path="datasets/cifar10.zip")
A = AugmentPipe(xflip=1, rotate90=1, xint=1, scale=1, rotate=1, aniso=1, xfrac=1, brightness=1, contrast=1, lumaflip=1,
                hue=1, saturation=1).eval().requires_grad_(False)            # its setting `bgc`
parts = dict(training_set_kwargs=training, G=copy.deepcopy(G), D=D, augment_pipe=A, G_ema=copy.deepcopy(G))
with open(file, "wb") as f:
    pickle.dump(parts, f)
z = torch.randn(args["count"], 512)
y = torch.arange(args["count"]) % max(args["classes"], 1)
c = torch.eye(args["classes"])[y] if args["classes"] else torch.zeros(len(z), 0)
draw = dict(noise_mode="const", force_fp32=True)
drawn = {f"psi{psi}": G(z, c, truncation_psi=psi, **draw).numpy() for psi in args["psi"]}
np.savez(pictures, z=z.numpy(), y=y.numpy(), parameters=sum(p.numel() for p in G.parameters()), **drawn)
"""


def main(
    peer: Path,
    resolution: int = 32,
    classes: int = 10,
    layers: int = 2,
    channel_base: int = 32768,
    fp16: int = 4,
    count: int = 10,
    psi: tuple[float, ...] = (1.0, 0.7),
    seed: int = 0,
):
    """Prints the largest difference between the official pictures and ours; ends with 1 if one exceeds 1e-3.

    Args:
        peer: checkout of NVlabs/stylegan2-ada-pytorch.
        fp16: how many of the highest resolutions the official network keeps in float16 on a GPU.
    """
    with tempfile.TemporaryDirectory() as folder:
        file, pictures = Path(folder) / "official.pkl", Path(folder) / "pictures.npz"
        told = dict(
            resolution=resolution,
            classes=classes,
            layers=layers,
            channel_base=channel_base,
            fp16=fp16,
            count=count,
            psi=psi,
            seed=seed,
        )
        subprocess.run(
            [sys.executable, "-c", OFFICIAL, file, pictures, json.dumps(told)],
            check=True,
            env={**os.environ, "PYTHONPATH": str(peer.resolve())},
        )
        official = np.load(pictures)
        z, y = torch.from_numpy(official["z"]), torch.from_numpy(official["y"])
        network, _ = read_official(file)
        parameters = sum(p.numel() for p in network.parameters())
        assert parameters == official["parameters"]
        print(f"{file.stat().st_size:,} bytes, {parameters:,} parameters, {network.config}")
        convert(str(file), f"{folder}/converted")
        worst = 0.0
        for value in psi:
            theirs = torch.from_numpy(official[f"psi{value}"])
            with torch.inference_mode():
                difference = (network(z, y, psi=value) - theirs).abs().max().item()
            grey = np.clip(np.rint((theirs.permute(0, 2, 3, 1).numpy() + 1) * 127.5), 0, 255)
            boxes = [load_teacher(source, psi=value) for source in (file, f"{folder}/converted")]
            levels = [np.abs(box(z, y).astype(int) - grey).max() for box in boxes]
            assert boxes[0].digest == boxes[1].digest
            print(
                f"psi {value}: official pictures within {theirs.min():.2f} .. {theirs.max():.2f}; largest "
                f"difference {difference:.1e}, in grey levels {levels[0]:.0f} (converted: {levels[1]:.0f})"
            )
            worst = max(worst, difference)
    return int(not worst < 1e-3)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
