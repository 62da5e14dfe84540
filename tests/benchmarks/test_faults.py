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
    command = [sys.executable, ROOT / "benchmarks" / "faults.py", *"--kills 1 --flips 24 --steps 3 --no-slow".split()]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.strip("| ").split(" | ")[-2:] for line in done.stdout.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == 21 and all(tried == survived and int(tried) for tried, survived in rows)
    assert sum(int(tried) for tried, _ in rows[10:13]) == 24  # flipped bits
