"""benchmarks/faults.py in small: its faults are survived, and it would say so if they were not."""
import os
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="benchmarks/faults.py forks its runs")


@pytest.fixture(scope="module")
def faults():
    import faults
    return faults


@pytest.fixture(scope="module")
def bench(faults, tmp_path_factory):
    return faults.Bench(tmp_path_factory.mktemp("faults"), verbs=("pairs", "distill"), steps=3)


def test_a_killed_run_ends_like_one_that_was_not(faults, bench):
    for verb in ("pairs", "distill"):
        *_, good, count = faults.killed(bench, verb, 2, random.Random(0))
        assert (good, count) == (2, 2)


def test_a_full_disk_is_one_line_and_nothing_is_lost(faults, bench):
    *_, good, count = faults.full_disk(bench, "distill")
    assert good == count == 3


def test_what_cannot_go_on_ends_with_one_line(faults, bench, capsys):
    assert [faults.damaged(bench, 1)[2], faults.other_config(bench)[2], faults.not_finite(bench)[2]] == [1, 1, 1]
    bench.whole["distill"]["film.gif"] = "another"
    assert faults.damaged(bench, 1)[2] == 0 and "NOT SURVIVED" in capsys.readouterr().err
