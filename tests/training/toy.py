"""A task of two linear layers for the loop's tests, in milliseconds.

Run as a program, `python toy.py OUT KIMG THREADS [kill]`, it trains in a process of its own; with `kill` it dies
while it writes its third checkpoint.
"""

import os
import signal
import sys
from dataclasses import dataclass

import torch
from torch import nn

from gsoc_kd.training import runs
from gsoc_kd.training.loop import train


@dataclass(frozen=True)
class Config:
    kimg: float = 0.096  # 24 steps
    batch: int = 4
    lr: float = 0.01
    disc_lr: float = 0.02
    lr_hold: float = 1.0
    lr_end: float = 0.05
    betas: tuple = (0.5, 0.9)
    ema: float = 0.8
    seed: int = 0
    bfloat16: bool | None = False


class Generator(nn.Module):
    z_dim, num_classes = 3, 2

    def __init__(self):
        super().__init__()
        self.config, self.linear, self.norm = {}, nn.Linear(3, 12), nn.BatchNorm1d(12, affine=False)

    def forward(self, z, y):
        return self.norm(self.linear(z)).view(-1, 3, 2, 2).tanh()


class ToyTask:
    verb, unit, period = "toy", "img", 5

    def __init__(self, tick=4, **changes):
        self.config, self.tick, self.seen = Config(**changes), tick, []
        self.steps = round(self.config.kimg * 1000 / self.config.batch)

    def place(self, device, rank, world):
        self.where = device, rank, world

    def networks(self):
        return Generator(), nn.Linear(12, 1)

    def draw(self, block):
        device, rank, world = self.where
        z = torch.randn(self.period, self.config.batch, 3, generator=runs.rng(self.config.seed, block, device))
        return {"z": z[:, rank::world]}

    def step(self, nets, given, i, descend_disc, descend):
        self.seen.append(nets.parts["optimizer"].param_groups[0]["lr"].item())
        x = nets.generator(given["z"], None)
        losses = {"disc": (nets.disc(x.detach().flatten(1)) - x.detach().mean()).square().mean()}
        descend_disc(losses["disc"])
        losses["generator"] = nets.disc(x.flatten(1)).mean() + x.square().mean()
        if i % 2:
            losses["every second"] = losses["generator"] * 2
        descend(losses["generator"])
        return losses

    def identity(self):
        return {
            "seed": self.config.seed,
            "lr": self.config.lr,
            "kimg": self.config.kimg,
            "lr_hold": self.config.lr_hold,
        }

    def provenance(self, out, minutes):
        return {"command": f"toy --out {out}", "data": "none", "classes": ["cat", "dog"]}


def die_at_the_third(save):
    """Writes half of the third checkpoint and kills its process."""
    calls = []

    def half(state, path):
        calls.append(path)
        save(state, path)
        if len(calls) == 3:
            os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    return half


if __name__ == "__main__":
    out, kimg, threads = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(threads)
    if "kill" in sys.argv:
        torch.save = die_at_the_third(torch.save)
    run = train(ToyTask(kimg=kimg), out, "cpu", minutes=1000)
    rank = os.environ.get("RANK", "0")
    torch.save(run.generator.state_dict(), f"{out}.{rank}.pt")
