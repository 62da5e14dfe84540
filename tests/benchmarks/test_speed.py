"""benchmarks/speed.py in small: each measure runs, and what it writes down is what was measured."""

import re
import sys
import types
from pathlib import Path

import pytest
import speed
import torch

from gsoc_kd.core.files import InputError
from gsoc_kd.networks.distylegan import DiStyleGANGenerator
from gsoc_kd.training import runs


def cells(text):
    """[[cell, ...], ...] of the tables in a text, without their lines of dashes."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [line for line in lines if "---" not in line[0]]


def test_all_take_turns_and_the_first_round_is_not_counted(monkeypatch):
    order, clock = [], iter(range(1000))
    monkeypatch.setattr(speed, "now", lambda device: next(clock))
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    assert speed.in_turn(calls, 2) == {"a": [1.0, 1.0], "b": [1.0, 1.0]}
    assert order == list("ababab")


def test_operations_are_counted_gradients_of_gradients_too():
    a, w = torch.randn(3, 4), torch.randn(4, 5, requires_grad=True)
    with speed.Operations() as counter:
        x = a.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad((x @ w).sum(), x, create_graph=True)  # 2 products of 3 x 4 x 5
        gradient.square().sum().backward()  # 1 more
    assert counter.total == 3 * 2 * 3 * 4 * 5


def test_training_is_timed_in_a_process_of_its_own(capsys):
    here = Path(speed.kd.__file__).parents[1]
    words = ["--pairs", "100", "--rounds", "1", "--presets", "smoke", "--steps", "2", "--before", str(here)]
    speed.main(["training", *words])
    text = capsys.readouterr().out
    head, *rows = cells(text)
    assert head == ["pairs/s", "now", "before", "ratio", "original", "ratio", "peak MB now", "before"]
    assert [row[0] for row in rows] == ["`smoke`, float32", "`smoke`, bfloat16"]
    for row in rows:
        now, before = float(row[1]), float(row[2])
        assert now > 0 and float(row[3]) == pytest.approx(now / before, abs=0.006 + 0.2 / before)
        assert row[4:6] == ["–", "–"] and all(50 < float(mb.replace(",", "")) < 10_000 for mb in row[6:])
    assert "`python benchmarks/speed.py training --pairs 100" in text


def test_captured_blocks_are_timed_beside_single_steps(monkeypatch, capsys):
    monkeypatch.setattr(runs, "NORM_BATCHES", (1, 16))
    monkeypatch.setattr(speed, "matmul_peak", lambda device: 1e9)
    speed.main("captured --device cpu --preset smoke --ticks 2 --images 64".split())
    _, *rows = cells(capsys.readouterr().out)
    assert [row[0] for row in rows] == ["`distill`", "`pretrain`"]
    for _, eager, captured, ratio, work, share, minutes in rows:
        eager, captured = (float(rate.replace(",", "")) for rate in (eager, captured))
        assert float(ratio) == pytest.approx(captured / eager, rel=0.02) and 0.001 < float(work) < 0.1
        assert float(share.rstrip("%")) == pytest.approx(100 * float(work) * captured, rel=0.5)
        assert float(minutes) == pytest.approx(125_000 / captured, rel=0.02)


def test_generators_and_their_files_are_timed_and_written_into_the_page(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    monkeypatch.setitem(speed.MEASURES, "generators", (speed.generators, page, "speed"))
    monkeypatch.setattr(speed, "DiStyleGANGenerator", lambda: DiStyleGANGenerator(width=16))
    monkeypatch.setattr(torch, "compile", lambda network, dynamic: network)
    words = "generators --rounds 1 --seconds 0 --no-scores --write".split()
    with pytest.raises(InputError, match="has no block"):
        speed.main(words)
    assert not capsys.readouterr().out
    page.write_text("<!-- speed: by -->\n<!-- end of speed -->\n")
    speed.main(words)
    text = capsys.readouterr().out
    assert page.read_text() == f"<!-- speed: by -->\n{text}<!-- end of speed -->\n"
    first, second = (cells(part) for part in text.split("\n\n")[:2])
    names = ["2022 generator, PyTorch eager", "teacher, PyTorch eager", "student, PyTorch eager"]
    assert [row[0] for row in first[1:]] == [*names, "student, PyTorch compiled", "student, OpenVINO fp32",
                                             "student, OpenVINO int8"]  # fmt: skip
    for row in first[1:]:
        for batch, cell in zip((1, 16, 256), row[1:]):
            rate, milliseconds, ratio = map(
                float, re.fullmatch(r"(\S+) \((\S+), (\S+)\)", cell.replace(",", "", cell.count(",") - 1)).groups()
            )
            assert rate == pytest.approx(1000 * batch / milliseconds, rel=0.1) and ratio > 0
    assert first[1][1].endswith(", 1.0)") and [row[0] for row in second[1:]] == ["fp32", "int8"]


def test_the_full_size_generator_is_timed(monkeypatch):
    small = dict(z_dim=512, w_dim=8, channel_base=64, channel_max=8)
    generator = speed.StyleGAN2Generator
    monkeypatch.setattr(speed, "StyleGAN2Generator", lambda: generator(**small))
    table, told = speed.stylegan2(rounds=1, batch=2)
    ((name, rate, ratio, gflops, difference),) = cells(table)[1:]
    assert (name, ratio, difference) == ("ours", "–", "0.0e+00") and float(rate.replace(",", "")) > 0
    assert "batch 2, 1 rounds" in told


def test_somebody_elses_code_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.ModuleType("a stub that goes again"))
    with pytest.raises(InputError, match=f"{tmp_path}.*No module named 'distylegan'; give the checkout"):
        next(speed.training(peer=tmp_path))
