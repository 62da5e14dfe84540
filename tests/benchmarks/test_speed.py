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


def rows(text):
    """Cells of the tables in a text, numbers as numbers, without their heads."""
    lines = [line.strip("| ").split(" | ") for line in text.replace(",", "").splitlines() if line.startswith("|")]
    lines = [lines[i + 1 :] for i, line in enumerate(lines) if line[0] == "---"]
    return [[float(c) if re.fullmatch(r"[\d.]+", c) else c for c in line] for line in lines[0] if line[0] != "---"]


def test_all_take_turns_and_the_first_round_is_not_counted():
    order = []
    found = speed.in_turn({name: lambda name=name: order.append(name) for name in "ab"}, 2)
    assert order == list("ababab") and [len(found[name]) for name in "ab"] == [2, 2]


def test_operations_are_counted_gradients_of_gradients_too():
    x, w = torch.randn(3, 4, requires_grad=True), torch.randn(4, 5, requires_grad=True)
    with speed.Operations() as counter:
        (gradient,) = torch.autograd.grad((x @ w).sum(), x, create_graph=True)  # 2 products of 3 x 4 x 5
        gradient.square().sum().backward()  # 1 more
    assert counter.total == 3 * 2 * 3 * 4 * 5


def test_training_is_timed_in_processes_of_its_own(capsys):
    here = Path(speed.kd.__file__).parents[1]
    speed.main(f"training --pairs 100 --rounds 1 --presets smoke --steps 2 --before {here}".split())
    text = capsys.readouterr().out
    found = rows(text)
    assert [row[0] for row in found] == ["`smoke` float32", "`smoke` bfloat16"]  # commas are gone
    for _, now, before, ratio, *original, peak, peak_before in found:
        assert now > 0 and ratio == pytest.approx(now / before, abs=0.01 + 0.2 / before) and original == ["–", "–"]
        assert 50 < peak < 10_000 and 50 < peak_before < 10_000
    assert "`python benchmarks/speed.py training --pairs 100" in text


def test_captured_blocks_are_timed_beside_single_steps(monkeypatch, capsys):
    monkeypatch.setattr(speed, "matmul_peak", lambda device: 1e9)
    speed.main("captured --device cpu --preset smoke --seconds 0.05 --images 64 --backend aot_eager".split())
    found = rows(capsys.readouterr().out)
    assert [row[0] for row in found] == ["`distill`", "`pretrain`"]
    for _, eager, *others, work, share, minutes in found:
        rates = [[float(number) for number in cell.replace(",", "").rstrip(")").split(" (")] for cell in others]
        for rate, ratio in rates:
            assert ratio == pytest.approx(rate / float(eager.split()[0].replace(",", "")), rel=0.05, abs=0.01)
        best = max(rate for rate, _ in [(float(eager.split()[0].replace(",", "")), 1), *rates])
        assert 0.001 < work < 0.1 and float(share.rstrip("%")) == pytest.approx(100 * work * best, rel=0.5)
        assert minutes == pytest.approx(125_000 / best, rel=0.05, abs=0.06)


def test_generators_and_their_files_are_timed_and_written_into_the_page(tmp_path, monkeypatch, capsys):
    page, words = tmp_path / "page.md", "generators --rounds 1 --seconds 0 --no-scores --write".split()
    monkeypatch.setitem(speed.MEASURES, "generators", (speed.generators, page, "speed"))
    monkeypatch.setattr(speed, "DiStyleGANGenerator", lambda: DiStyleGANGenerator(width=16))
    monkeypatch.setattr(torch, "compile", lambda network, dynamic: network)
    with pytest.raises(InputError, match="has no block"):  # before anything is measured
        speed.main(words)
    page.write_text("<!-- speed: by -->\n<!-- end of speed -->\n")
    speed.main(words)
    text = capsys.readouterr().out
    assert page.read_text() == f"<!-- speed: by -->\n{text}<!-- end of speed -->\n"
    base, *others = rows(text.split("\n\n")[0])
    names = ["teacher PyTorch eager", "student PyTorch eager", "student PyTorch compiled"]
    assert [row[0] for row in others] == [*names, "student OpenVINO fp32", "student OpenVINO int8"]
    for batch, cell in zip((1, 16, 256), base[1:]):
        rate, milliseconds, ratio = map(float, re.fullmatch(r"(\S+) \((\S+) (\S+)\)", cell).groups())
        assert rate == pytest.approx(1000 * batch / milliseconds, rel=0.1, abs=1) and ratio == 1
    assert [row[0] for row in rows(text.split("\n\n")[1])] == ["fp32", "int8"]


def test_the_full_size_generator_is_timed(monkeypatch):
    small = speed.StyleGAN2Generator(z_dim=512, w_dim=8, channel_base=64, channel_max=8)
    monkeypatch.setattr(speed, "StyleGAN2Generator", lambda: small)
    table, told = speed.stylegan2(rounds=1, batch=2)
    assert [row[0] for row in rows(table)] == ["ours"] and "batch 2, 1 rounds" in told


def test_somebody_elses_code_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.ModuleType("a stub that goes again"))
    with pytest.raises(InputError, match=f"{tmp_path}.*No module named 'distylegan'; give the checkout"):
        next(speed.training(peer=tmp_path))
