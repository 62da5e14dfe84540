"""benchmarks/gpu.py: what is counted and timed. The peak of a GPU needs one."""

import sys
import types
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import gpu  # noqa: E402


def test_operations_of_the_first_steps_are_counted_gradients_of_gradients_too():
    module = types.SimpleNamespace(tqdm=None)
    a, w = torch.randn(3, 4), torch.randn(4, 5, requires_grad=True)

    def train():
        a @ w  # before the bar: no step
        bar = module.tqdm(total=9, desc="train")
        for step in range(3):
            x = a.clone().requires_grad_(True)
            (gradient,) = torch.autograd.grad((x @ w).sum(), x, create_graph=True)  # 2 products of 3 x 4 x 5
            gradient.square().sum().backward()  # 1 more
            bar.update(3), bar.set_postfix(loss=1)
        bar.close()

    assert gpu.step_operations(module, train, 2) == 3 * 2 * 3 * 4 * 5
    assert module.tqdm is None


def test_seconds_are_the_wall_s(monkeypatch):
    times = iter([5.0, 7.5])
    monkeypatch.setattr(gpu.time, "perf_counter", lambda: next(times))
    assert gpu.seconds(lambda: None, "cpu") == 2.5
