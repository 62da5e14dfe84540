"""benchmarks/faults.py in small: its faults are survived."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="benchmarks/faults.py forks its runs")
def test_faults_are_survived():
    """In a process of its own: a fork of one in which PyTorch has already computed may hang."""
    command = [sys.executable, ROOT / "benchmarks" / "faults.py", *"--kills 1 --steps 3 --no-two".split()]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split(" | ")[-1] for line in done.stdout.splitlines() if line.startswith("| ")][2:]
    assert rows == ["1 of 1 |"] * 3 + ["3 of 3 |"] * 3 + ["1 of 1 |"] * 3 + ["2 of 2 |"]
