"""The loop on a toy task: exact resume from anywhere, budgets, rates, one process or two, nothing lost."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toy import Generator, ToyTask

from gsoc_kd.core.files import InputError, read_json
from gsoc_kd.core.weights import load_network
from gsoc_kd.training import runs
from gsoc_kd.training.loop import averaged, pieces, train

HERE, TIMES = Path(__file__).parent, {"seconds", "imgs_per_second"}


def untimed(stats):
    return [{key: value for key, value in row.items() if key not in TIMES} for row in stats]


def assert_same(run, other):
    """The same statistics, networks, averages and moments of Adam, to the bit."""
    assert untimed(runs.read_stats(run.folder)) == untimed(runs.read_stats(other.folder)) == untimed(run.stats)
    states = [torch.load(r.folder / "checkpoint.pt", weights_only=True) for r in (run, other)]
    torch.testing.assert_close(*states, rtol=0, atol=0)
    torch.testing.assert_close(run.generator.state_dict(), other.generator.state_dict(), rtol=0, atol=0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(ToyTask(), tmp_path_factory.mktemp("loop") / "run", "cpu")


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_is_done_at_one_go_crosses_no_tick_and_no_block():
    assert list(pieces(0, 12, 5, 4)) == [(0, 4), (4, 5), (5, 8), (8, 10), (10, 12)]
    assert list(pieces(9, 12, 5, 1)) == [(9, 10), (10, 11), (11, 12)] and list(pieces(12, 12, 5, 4)) == []


def test_a_run_leaves_statistics_a_animation_and_the_averaged_generator(whole):
    assert [row["step"] for row in whole.stats] == [4, 8, 12, 16, 20, 24]
    assert [row["kimg"] for row in whole.stats] == [0.016, 0.032, 0.048, 0.064, 0.08, 0.096]
    assert all(set(row) == {"step", "kimg", "disc", "generator", "every second", *TIMES} for row in whole.stats)
    lines = [json.loads(line) for line in (whole.folder / "stats.jsonl").read_text().splitlines()]
    assert whole.stats == runs.read_stats(whole.folder) == [row for row in lines if len(row.pop("checksum")) == 16]
    names = {p.name for p in whole.folder.iterdir()} - {"tensorboard"}  # that one only where it is installed
    assert names == {"checkpoint.previous.pt", "checkpoint.pt", "config.json", "animation", "animation.gif",
                     "generator", "stats.jsonl"}  # fmt: skip
    assert len(list((whole.folder / "animation").glob("*.png"))) == 6
    assert not whole.generator.training and whole.student is whole.generator
    saved = load_network(whole.folder / "generator", (Generator,))
    torch.testing.assert_close(saved.state_dict(), whole.generator.state_dict(), rtol=0, atol=0)
    told = read_json(whole.folder / "generator" / "provenance.json")
    assert told["kimg"] == 0.096 and told["classes"] == ["cat", "dog"] and told["command"].endswith(str(whole.folder))
    assert (told["precision"], told["processes"], told["config"]["batch"]) == ("float32", 1, 4)


def test_means_are_over_the_steps_in_which_a_loss_came(tmp_path):
    one = train(ToyTask(tick=1), tmp_path / "run", "cpu").stats
    for i, row in enumerate(one):
        assert ("every second" in row) == bool(i % 5 % 2)
    several = train(ToyTask(tick=8), tmp_path / "other", "cpu").stats
    for name in ("disc", "every second"):
        first = [row[name] for row in one[:8] if name in row]
        assert several[0][name] == pytest.approx(sum(first) / len(first), rel=1e-5)


@pytest.mark.parametrize("where, tick", [("save_checkpoint", 2), ("append_stats", 3), ("save_checkpoint", 1)])
def test_an_interrupted_run_ends_like_an_uninterrupted_one(whole, tmp_path, monkeypatch, where, tick):
    calls, original = [], getattr(runs, where)

    def interrupted(*args):
        original(*args)
        calls.append(args)
        if len(calls) == tick:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs, where, interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(ToyTask(), tmp_path / "run", "cpu")
    torch.manual_seed(123)  # the global state does not matter
    assert_same(train(ToyTask(), tmp_path / "run", "cpu"), whole)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
def test_a_process_killed_while_it_writes_a_checkpoint_goes_on_as_if_it_had_not_been(whole, tmp_path):
    words = [sys.executable, HERE / "toy.py", tmp_path / "run", "0.096", str(torch.get_num_threads()), "kill"]
    process = subprocess.run(words, capture_output=True, text=True)
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert runs.load_checkpoint(tmp_path / "run")["step"] == 8 and len(runs.read_stats(tmp_path / "run")) == 3
    assert_same(train(ToyTask(), tmp_path / "run", "cpu"), whole)


def test_a_finished_run_called_again_does_no_step(whole):
    before, task = contents(whole.folder), ToyTask()
    assert train(task, whole.folder, "cpu").stats == whole.stats and task.seen == []
    assert contents(whole.folder) == before


def test_a_damaged_checkpoint_costs_one_tick_and_nothing_else(whole, tmp_path):
    run = train(ToyTask(), tmp_path / "run", "cpu")
    (run.folder / "checkpoint.pt").write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="checkpoint.pt .*damaged"):
        assert_same(train(ToyTask(), tmp_path / "run", "cpu"), whole)


def flipped(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_damaged_statistics_come_back_from_the_checkpoint(whole, tmp_path):
    path = train(ToyTask(kimg=0.048), tmp_path / "run", "cpu").folder / "stats.jsonl"
    flipped(path, 2000)
    with pytest.warns(UserWarning, match="stats.jsonl, line 2 .*writes it anew"):
        assert_same(train(ToyTask(), tmp_path / "run", "cpu"), whole)
    path.unlink()
    assert_same(train(ToyTask(), tmp_path / "run", "cpu"), whole)
    path.write_bytes(path.read_bytes()[:-30])  # a torn last line is no damage
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(train(ToyTask(), tmp_path / "run", "cpu"), whole)


def test_a_damaged_frame_is_named_and_left_out(tmp_path):
    run = train(ToyTask(), tmp_path / "run", "cpu")
    animation, frame = run.folder / "animation.gif", run.folder / "animation" / "0000012.png"
    before = animation.read_bytes()
    flipped(frame, 8 * (len(frame.read_bytes()) - 30))
    with pytest.warns(UserWarning, match="0000012.png: damaged, left out of the training animation"):
        train(ToyTask(), run.folder, "cpu")
    with Image.open(animation) as image:
        assert image.n_frames == 5 and animation.read_bytes() != before


def test_a_checkpoint_of_another_network_does_not_fit(whole, tmp_path):
    run = train(ToyTask(), tmp_path / "run", "cpu")
    state = runs.load_checkpoint(run.folder)
    for part in ({"step": 24}, {**state, "generator": {"linear.weight": torch.ones(2)}}):
        runs.save_checkpoint(run.folder, {"stats": [], **part})
    with pytest.raises(InputError, match="no checkpoint can be read: .*checkpoint.pt .*checkpoint.previous.pt"):
        train(ToyTask(), run.folder, "cpu")
    runs.save_checkpoint(run.folder, state)
    runs.save_checkpoint(run.folder, {"step": 24, "stats": []})
    with pytest.warns(UserWarning, match="going on from .*previous"):
        torch.testing.assert_close(
            train(ToyTask(), run.folder, "cpu").generator.state_dict(), whole.generator.state_dict(), rtol=0, atol=0
        )


def test_a_second_process_is_told_who_writes(tmp_path):
    def second(*_):
        told = []
        thread = threading.Thread(target=lambda: told.append(refused(train, ToyTask(), tmp_path / "run", "cpu")))
        thread.start()
        thread.join()
        assert f"is being written by process {os.getpid()} on " in told[0]

    run = train(ToyTask(), tmp_path / "run", "cpu", on_tick=second)
    assert len(run.stats) == 6 and [p.name for p in tmp_path.iterdir()] == ["run"]


def refused(function, *inputs):
    try:
        function(*inputs)
    except InputError as error:
        return str(error)


def test_a_link_is_a_folder_to_train_in(whole, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "run")
    for kimg in (0.048, 0.096):
        run = train(ToyTask(kimg=kimg), tmp_path / "link", "cpu")
    assert_same(run, whole)
    assert (tmp_path / "link").is_symlink() and names(tmp_path) == ["elsewhere", "link"]
    assert names(tmp_path / "elsewhere") == ["run"]


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_finished_run_goes_on_for_longer_as_if_it_had_been_asked_for_at_once(whole, tmp_path):
    train(ToyTask(kimg=0.048), tmp_path / "run", "cpu")
    assert_same(train(ToyTask(), tmp_path / "run", "cpu"), whole)
    before = contents(whole.folder)
    with pytest.raises(InputError, match="has seen 0.096 thousand images, more than kimg 0.048"):
        train(ToyTask(kimg=0.048), whole.folder, "cpu")
    assert contents(whole.folder) == before


def test_another_config_is_refused_and_a_falling_rate_ties_the_length(whole, tmp_path):
    with pytest.raises(InputError, match="lr 0.01 -> 0.02"):
        train(ToyTask(lr=0.02), whole.folder, "cpu")
    train(ToyTask(kimg=0.016, lr_hold=0.5), tmp_path / "run", "cpu")
    with pytest.raises(InputError, match="kimg 0.016 -> 0.048"):
        train(ToyTask(kimg=0.048, lr_hold=0.5), tmp_path / "run", "cpu")
    with pytest.raises(InputError, match="minutes None -> 5"):  # the rates follow what is used of them, too
        train(ToyTask(kimg=0.016, lr_hold=0.5), tmp_path / "run", "cpu", minutes=5)


# ---------------------------------------------------------------- time and rates


def test_a_budget_in_minutes_stops_with_a_tick_and_more_minutes_go_on(whole, tmp_path):
    clock = itertools.count()

    def go_on(minutes):
        return train(ToyTask(), tmp_path / "run", "cpu", minutes, timer=lambda: float(next(clock)))

    first = go_on(3 / 60)  # a second a look at the clock
    assert [(row["step"], row["seconds"]) for row in first.stats] == [(2, 4.0)]
    assert go_on(3 / 60).stats == first.stats  # spent: no further step
    rest = go_on(1000)
    assert [row["step"] for row in rest.stats] == [2, 4, 8, 12, 16, 20, 24]
    torch.testing.assert_close(rest.generator.state_dict(), whole.generator.state_dict(), rtol=0, atol=0)
    with pytest.raises(InputError, match="minutes is -1"):
        go_on(-1)
    before = contents(tmp_path / "run")
    with pytest.raises(InputError, match="holds a run of .* minutes, more than minutes 0.05; ask for as many"):
        go_on(3 / 60)  # it would hand out the longer one
    assert contents(tmp_path / "run") == before


def test_the_learning_rate_is_held_and_then_falls_linearly(tmp_path):
    held, falling = ToyTask(), ToyTask(lr_hold=0.5, lr_end=0.2)
    train(held, tmp_path / "held", "cpu")
    train(falling, tmp_path / "falling", "cpu")
    assert held.seen == pytest.approx([0.01] * 24)
    expected = [0.01 * (1 - 0.8 * max(0, step / 24 - 0.5) / 0.5) for step in range(24)]
    assert falling.seen == pytest.approx(expected) and falling.seen[-1] == pytest.approx(0.01 * (0.2 + 0.8 / 12))


def test_with_minutes_the_rate_falls_with_the_time_that_is_used(tmp_path):
    clock, task = itertools.count(), ToyTask(kimg=1000, lr_hold=0.5, lr_end=0.0)
    run = train(task, tmp_path / "run", "cpu", 20.5 / 60, timer=lambda: float(next(clock)))
    assert run.stats[-1]["seconds"] >= 20.5 and 10 < len(task.seen) < 25
    assert task.seen[0] == pytest.approx(0.01) and 0 <= task.seen[-1] < 0.005  # told once a block
    assert sorted(task.seen, reverse=True) == task.seen


def test_rates_are_set_again_after_a_resume(tmp_path):
    whole, part, rest = (ToyTask(lr_hold=0.25) for _ in range(3))
    run = train(whole, tmp_path / "whole", "cpu")
    with pytest.raises(ZeroDivisionError):
        train(part, tmp_path / "part", "cpu", on_tick=lambda _, row: {"x": 1 / (row["step"] - 8)})
    after = train(rest, tmp_path / "part", "cpu").generator.state_dict()
    torch.testing.assert_close(after, run.generator.state_dict(), rtol=0, atol=0)
    assert part.seen + rest.seen[4:] == whole.seen


def test_on_tick_gets_the_average_and_its_answer_goes_into_the_statistics(whole, tmp_path):
    def on_tick(generator, row):
        assert not generator.training and "seconds" in row
        torch.rand(5)  # may use the global random state
        return {"score": row["step"] / 2} if row["step"] > 8 else None

    run = train(ToyTask(), tmp_path / "run", "cpu", on_tick=on_tick)
    assert [row.get("score") for row in runs.read_stats(run.folder)] == [None, None, 6.0, 8.0, 10.0, 12.0]
    torch.testing.assert_close(run.generator.state_dict(), whole.generator.state_dict(), rtol=0, atol=0)


def test_numbers_of_numpy_and_torch_are_numbers(whole, tmp_path):
    told = {"a": np.float32(0.5), "b": torch.tensor(2), "c": {"d": [np.int64(3)]}}
    run = train(ToyTask(), tmp_path / "run", "cpu", minutes=np.float32(60), on_tick=lambda *_: told)
    assert {key: runs.read_stats(run.folder)[0][key] for key in told} == {"a": 0.5, "b": 2, "c": {"d": [3]}}
    torch.testing.assert_close(run.generator.state_dict(), whole.generator.state_dict(), rtol=0, atol=0)
    assert len(train(ToyTask(), tmp_path / "nothing", "cpu", on_tick=lambda _, row: row["step"] > 99).stats) == 6
    for answer in ({"a": torch.zeros(2)}, {"a": object()}, 3, np.float32(3)):
        with pytest.raises(InputError, match="on_tick must return None or a dict of numbers and texts"):
            train(ToyTask(), tmp_path / "other", "cpu", on_tick=lambda *_, answer=answer: answer)


def test_what_systems_leave_in_a_folder_does_not_stop_a_run(whole, tmp_path):
    def on_tick(generator, row):
        (tmp_path / "run" / "generator" / ".DS_Store").touch()

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".DS_Store").touch()
    assert_same(train(ToyTask(), tmp_path / "run", "cpu", on_tick=on_tick), whole)


# ---------------------------------------------------------------- the average


def test_the_average_is_an_exponential_one_after_a_ramp(tmp_path):
    run = train(ToyTask(tick=1), tmp_path / "run", "cpu", on_tick=lambda *_: None)
    plain, task, expected = [], ToyTask(tick=1), None
    save = runs.save_checkpoint
    try:
        runs.save_checkpoint = lambda folder, state: plain.append({k: v.clone() for k, v in state["generator"].items()})
        train(task, tmp_path / "again", "cpu")
    finally:
        runs.save_checkpoint = save
    for step, weights in enumerate(plain):
        share, new = min(0.8, step / (step + 9)), weights["linear.weight"]
        expected = new if expected is None else share * expected + (1 - share) * new
    torch.testing.assert_close(run.generator.linear.weight, expected, rtol=0, atol=1e-6)


def test_the_average_has_batch_norm_statistics_of_its_own_weights(whole):
    state = torch.load(whole.folder / "checkpoint.pt", weights_only=True)["average"]
    assert torch.equal(state["norm.running_mean"], torch.zeros(12))  # the untrained generator's
    again = Generator()
    again.load_state_dict(state)
    found = averaged(again, 0, torch.device("cpu"))
    torch.testing.assert_close(found.state_dict(), whole.generator.state_dict(), rtol=0, atol=0)
    z = torch.randn(100_000, 3)
    expected = found.linear(z).mean(0)
    assert (found.norm.running_mean - expected).abs().max() < 0.1  # of 1,024 latents


@pytest.mark.parametrize("classes, seen", [(2, 1024), (200, 1024), (1500, 1536)])
def test_the_average_is_measured_on_all_classes_alike(classes, seen):
    class Labels(Generator):
        def forward(self, z, y):
            labels.extend(y.tolist())
            return super().forward(z, y)

    (network := Labels()).num_classes, labels = classes, []
    averaged(network, 0, torch.device("cpu"))
    counts = Counter(labels)
    assert len(labels) == seen and len(counts) == classes and max(counts.values()) - min(counts.values()) <= 1


# ---------------------------------------------------------------- what goes wrong, and the caller's world


def test_a_loss_that_is_not_finite_stops_and_the_last_checkpoint_stays(tmp_path, monkeypatch):
    task, step = ToyTask(), ToyTask.step

    def breaks(self, *given):
        return {name: loss * (float("nan") if len(self.seen) > 6 else 1) for name, loss in step(self, *given).items()}

    monkeypatch.setattr(ToyTask, "step", breaks)
    with pytest.raises(InputError, match="loss disc.* is not finite at step 8.*Lower the learning rate"):
        train(task, tmp_path / "run", "cpu")
    assert runs.load_checkpoint(tmp_path / "run")["step"] == 4 and len(runs.read_stats(tmp_path / "run")) == 1
    assert load_network(tmp_path / "run" / "generator", (Generator,)).linear.weight.isfinite().all()


def test_a_device_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="device 'tpu' cannot be used here"):
        train(ToyTask(), tmp_path / "run", "tpu")
    assert not (tmp_path / "run").exists()


def test_the_callers_world_neither_matters_nor_changes(whole, tmp_path):
    torch.manual_seed(77)
    before = torch.get_rng_state()
    with torch.no_grad():
        assert_same(train(ToyTask(), tmp_path / "run", "cpu"), whole)
    with torch.inference_mode():
        assert_same(train(ToyTask(), tmp_path / "other", "cpu"), whole)
    assert torch.equal(torch.get_rng_state(), before) and torch.is_grad_enabled()


def test_accelerates_environment_does_not_change_a_run(whole, tmp_path):
    environment = {**os.environ, "ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}
    words = [sys.executable, HERE / "toy.py", tmp_path / "run", "0.096", str(torch.get_num_threads())]
    process = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert process.returncode == 0, process.stderr
    found = torch.load(tmp_path / "run.0.pt", weights_only=True)
    torch.testing.assert_close(found, whole.generator.state_dict(), rtol=0, atol=0)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
def test_two_processes_share_a_batch_and_end_with_the_same_generator(tmp_path):
    """Each sees half of every batch; gradients are averaged, so that both make the step of the whole batch."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.run([*launch, HERE / "toy.py", tmp_path / "run", "0.096", "1"], capture_output=True, text=True,
                             env=environment, timeout=300)  # fmt: skip
    assert process.returncode == 0, process.stderr
    first, second = (torch.load(f"{tmp_path / 'run'}.{rank}.pt", weights_only=True) for rank in (0, 1))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert [row["step"] for row in runs.read_stats(tmp_path / "run")] == [4, 8, 12, 16, 20, 24]
    assert read_json(tmp_path / "run" / "generator" / "provenance.json")["processes"] == 2
    again = train(ToyTask(), tmp_path / "run", "cpu")  # one process goes on from two, here with nothing to do
    assert len(again.stats) == 6
