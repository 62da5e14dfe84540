"""Our reading of official files against the official code itself: python benchmarks/official.py --official FOLDER

FOLDER is a checkout of https://github.com/NVlabs/stylegan2-ada-pytorch (commit d72cc7d). That code saves a generator of
random weights as its training does, and generates images; ours reads the file and must generate the same.
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
file, images, asked = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
torch.manual_seed(0)
sizes = dict(c_dim=asked["classes"], img_resolution=asked["resolution"], img_channels=3)
kinds = dnnlib.EasyDict(channel_base=asked["channel_base"], channel_max=512, num_fp16_res=4, conv_clamp=256)
mapping = dnnlib.EasyDict(num_layers=asked["layers"])
G = Generator(z_dim=512, w_dim=512, mapping_kwargs=mapping, synthesis_kwargs=kinds, **sizes)
for name, value in G.named_parameters():      # as if trained: no zeros, so that nothing goes unnoticed
    if name.endswith(("noise_strength", "bias")):
        value.data += 0.3 * torch.randn_like(value)
G.mapping.w_avg += 0.3 * torch.randn_like(G.mapping.w_avg)
D, A = Discriminator(**sizes, **kinds, architecture="orig"), AugmentPipe(xflip=1, rotate90=1, scale=1, hue=1)
G, D, A, G_ema = (copy.deepcopy(part).eval().requires_grad_(False) for part in (G, D, A, G))
with open(file, "wb") as f:
    pickle.dump(dict(training_set_kwargs=dnnlib.EasyDict(path="cifar10.zip"), G=G, D=D, augment_pipe=A, G_ema=G_ema), f)
z, y = torch.randn(10, 512), torch.arange(10) % max(asked["classes"], 1)
c = torch.eye(asked["classes"])[y] if asked["classes"] else torch.zeros(len(z), 0)
drawn = {str(psi): G(z, c, truncation_psi=psi, noise_mode="const", force_fp32=True) for psi in asked["psi"]}
np.savez(images, z=z, y=y, **drawn)
"""


def main(official: Path, resolution=32, classes=10, layers=2, channel_base=32768, psi: tuple[float, ...] = (1.0, 0.7)):
    """Prints the largest difference between the official images and ours; ends with 1 if one exceeds 1e-3."""
    asked = json.dumps({name: value for name, value in locals().items() if name != "official"})
    with tempfile.TemporaryDirectory() as folder:
        file, images = Path(folder) / "official.pkl", Path(folder) / "images.npz"
        command = [sys.executable, "-c", OFFICIAL, file, images, asked]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(official.resolve())})
        theirs = np.load(images)
        z, y = torch.from_numpy(theirs["z"]), torch.from_numpy(theirs["y"])
        network, _ = read_official(file)
        convert(str(file), f"{folder}/converted")
        differences = []
        for value in map(str, psi):
            x = torch.from_numpy(theirs[value])  # (N, 3, R, R)
            differences.append((network(z, y, psi=float(value)) - x).abs().max().item())
            grey = np.clip(np.rint((x.permute(0, 2, 3, 1).numpy() + 1) * 127.5), 0, 255)
            boxes = [load_teacher(source, psi=float(value)) for source in (file, f"{folder}/converted")]
            levels = [np.abs(box(z, y).astype(int) - grey).max() for box in boxes]
            assert boxes[0].digest == boxes[1].digest
            print(f"psi {value}: difference {differences[-1]:.1e}; grey levels {levels}")
    return int(not max(differences) < 1e-3)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
