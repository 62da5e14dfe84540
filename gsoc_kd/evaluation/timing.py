"""How fast is it? One protocol for every speed in this project: a fixed batch, several rounds in which all
candidates take turns, and the median of the rounds, so that other work on the machine affects each of them
(docs/Deployment.md#speed)."""

import functools
import statistics
import time

import torch
from tqdm import tqdm

from ..core.checks import whole
from ..core.files import InputError
from ..pairs.make import draw_latents
from ..teachers.black_box import black_box

BATCH, ROUNDS, SECONDS = 256, 5, 0.4  # images at once, rounds, and how long a turn lasts at least


def speeds(generators, batch=BATCH, rounds=ROUNDS, seconds=SECONDS, progress=None):
    """{name: uint8 images a second} of {name: generator, as `black_box` takes it}, latents and labels given: the median
    of `rounds` rounds, in each of which every generator has a turn of `seconds`, at least one batch. A round before
    them warms up. progress: text of a bar. InputError: batch or rounds below 1, seconds below 0."""
    whole("rounds", rounds)
    if not seconds >= 0:
        raise InputError(f"seconds must be a number from 0 on, not {seconds!r}")
    calls = {}
    for name, generator in generators.items():
        box = black_box(generator, batch=whole("batch", batch))
        z, y = draw_latents(0, 0, batch, box.z_dim, box.z_from), torch.arange(batch) % box.num_classes
        calls[name] = functools.partial(box, z, y)
    found = in_turn(calls, rounds, least=seconds, progress=progress)
    return {name: batch / statistics.median(times) for name, times in found.items()}


def speed(generator, batch=BATCH, rounds=ROUNDS, seconds=SECONDS):
    """`speeds` of one generator alone. What is to be compared belongs into one call of `speeds`."""
    return speeds({"": generator}, batch, rounds, seconds)[""]


def in_turn(calls, rounds, device="cpu", least=0.0, progress=None):
    """{name: seconds of a call, for each round}: all take turns of `least` seconds; the first round is not counted."""
    found = {name: [] for name in calls}
    for turn in tqdm(range(rounds + 1), progress, unit="round", leave=False, disable=progress is None):
        for name, call in calls.items():
            start, count = now(device), 0
            while count == 0 or now(device) - start < least:
                call()
                count += 1
            found[name] += [(now(device) - start) / count] if turn else []
    return found


def now(device="cpu"):
    """Seconds, with nothing left in the device's queue."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
