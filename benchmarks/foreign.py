"""A generator of somebody else's as the teacher: BigGAN in its CIFAR-10 configuration, with random weights.

    python benchmarks/foreign.py --peer FOLDER

FOLDER is a checkout of https://github.com/ajbrock/BigGAN-PyTorch (commit 98459431). Triples are made, loaded again and
compared with what the generator draws; a student distils from them. It shows that the way is open, not how good it gets.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import tyro

import gsoc_kd as kd
from gsoc_kd.data.images import to_uint8


def load_biggan(peer):
    """Their generator with random weights; batch-norm statistics measured, as after a training."""
    sys.path.insert(0, str(peer.resolve()))
    from BigGAN import Generator

    torch.manual_seed(0)
    G = Generator(
        G_ch=64, dim_z=128, resolution=32, G_attn="0", n_classes=10, G_shared=False, G_init="N02", no_optim=True
    )  # as its scripts/launch_cifar_ema.sh
    with torch.no_grad():
        for _ in range(10):
            G.train()(torch.randn(50, 128), torch.randint(10, (50,)))
    return G.eval()


def main(peer: Path, per_class: int = 20, preset: str = "smoke"):
    """Makes `per_class` triples a class and distils a student with `preset`; prints what came out."""
    G = load_biggan(peer)

    def biggan(z, y):  # the adapter
        return to_uint8(G(z, G.shared(y)))  # (N, 3, 32, 32) in [-1, 1] -> uint8

    biggan.z_dim, biggan.num_classes = 128, 10

    print(f"BigGAN: {sum(p.numel() for p in G.parameters()):,} parameters")
    with tempfile.TemporaryDirectory() as folder:
        kd.make_pairs(biggan, per_class=per_class, out=f"{folder}/pairs")
        pairs = kd.load_pairs(f"{folder}/pairs")
        again = biggan(torch.from_numpy(pairs.latents[:10]).float(), torch.from_numpy(pairs.labels[:10]))
        difference = np.abs(pairs.images[:10].astype(int) - again.numpy()).max()
        print(
            f"{pairs}: grey levels {pairs.images.min()} .. {pairs.images.max()}; drawn again they differ by "
            f"at most {difference}"
        )
        run = kd.distill(pairs, config=kd.DistillConfig.preset(preset), out=f"{folder}/student")
        parameters = sum(p.numel() for p in run.student.parameters())
        x = run.student(torch.randn(10, 128), torch.arange(10))
        print(
            f"student: {parameters:,} parameters, draws {tuple(x.shape)}, deviation {x.std():.2f}; its pixel loss fell "
            f"from {run.stats[0]['pixel']:.3f} to {run.stats[-1]['pixel']:.3f}"
        )


if __name__ == "__main__":
    tyro.cli(main)
