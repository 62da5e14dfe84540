"""Speeds: everything takes turns, and of the rounds the median counts."""

import itertools

import numpy as np
import pytest
import torch

import gsoc_kd as kd
from gsoc_kd.evaluation import timing
from gsoc_kd.evaluation.table import row, rows
from gsoc_kd.networks.conv import ConvGenerator
from gsoc_kd.teachers.black_box import Teacher


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the calls of a test move; `clock.time` is what it shows."""

    class Clock:
        time = 0.0

    monkeypatch.setattr(timing, "now", lambda device="cpu": Clock.time)
    return Clock


def generator(clock, calls, name, costs):
    """A Teacher that takes the next of `costs` seconds a call and notes what it was asked for."""
    costs = itertools.cycle(costs)

    def draw(z, y):
        clock.time += next(costs)
        calls.append((name, tuple(z.shape), y.tolist()))
        return np.zeros((len(z), 8, 8, 3), np.uint8)

    return Teacher(draw, 4, 3, 8, name=name)


def test_all_take_turns_and_the_median_round_counts(clock):
    calls = []
    both = {"slow": generator(clock, calls, "slow", [50.0, 2.0, 2.0, 90.0, 2.0, 2.0]),  # warms up, is disturbed once
            "fast": generator(clock, calls, "fast", [1.0])}  # fmt: skip
    assert timing.speeds(both, batch=32, rounds=5, seconds=0) == {"slow": 16.0, "fast": 32.0}
    assert [name for name, *_ in calls] == ["slow", "fast"] * 6
    assert {tuple(call[1:2]) for call in calls} == {((32, 4),)} and calls[0][2] == [i % 3 for i in range(32)]


def test_a_turn_lasts_as_long_as_asked(clock):
    calls = []
    assert timing.speed(generator(clock, calls, "one", [0.5]), batch=8, rounds=2, seconds=1.6) == 16.0
    assert len(calls) == 3 * 4


def test_rows_are_timed_in_turn_and_one_row_alone(clock, capsys):
    calls = []
    both = {name: generator(clock, calls, name, [cost]) for name, cost in (("a", 1.0), ("b", 4.0))}
    found = rows(both, {"a": {"cifar_fd": 1.5}, "b": {}})
    assert found[0] == {"name": "a", "parameters": None, "macs": None, "images_per_second": 256.0, "cifar_fd": 1.5}
    assert found[1]["images_per_second"] == 64.0 and "cifar_fd" not in found[1]
    assert [name for name, *_ in calls] == ["a", "b"] * 6
    assert "measure speed:   0%|          | 0/6" in capsys.readouterr().err
    assert row("b", both["b"], {}) == found[1]


def test_a_network_is_taken_too_and_bad_words_are_refused():
    network = ConvGenerator(4, 3, 8, (8, 8), 4)
    before = torch.get_rng_state()
    assert timing.speed(network, batch=3, rounds=1, seconds=0) > 0
    assert torch.equal(before, torch.get_rng_state())
    for words in (dict(batch=0), dict(rounds=0), dict(rounds=1.5), dict(seconds=-1), dict(seconds=float("nan"))):
        with pytest.raises(kd.InputError, match=next(iter(words))):
            timing.speed(network, **words)
