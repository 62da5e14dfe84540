"""Latents come from N(0, 1) or from [0, 1), whatever the caller's default dtype is."""

import torch

from gsoc_kd.core.latents import sample, z_from


def rng():
    return torch.Generator().manual_seed(3)


def test_each_name_is_its_distribution():
    normal, uniform = (sample(name, 500, 400, generator=rng()).double() for name in ("normal", "uniform"))
    assert abs(normal.mean()) < 0.01 and abs(normal.std() - 1) < 0.01  # 200,000 numbers
    assert 0 <= uniform.min() < 1e-3 and 0.999 < uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.005 and abs(uniform.var() - 1 / 12) < 0.001
    assert torch.equal(sample("uniform", 3, 2, generator=rng()), torch.rand(3, 2, generator=rng()))
    torch.set_default_dtype(torch.float64)
    try:
        again = sample("normal", 500, 400, generator=rng())
    finally:
        torch.set_default_dtype(torch.float32)
    assert again.dtype == torch.float32 and torch.equal(again.double(), normal)


def test_who_says_nothing_is_normal():
    class Says:
        z_from = "uniform"

    assert z_from(object()) == z_from(torch.nn.Linear(1, 1)) == "normal" and z_from(Says()) == "uniform"
