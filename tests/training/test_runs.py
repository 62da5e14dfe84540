"""A run's folder: nothing foreign is touched, nothing whole is lost, chance follows from seed and step."""

import json
import os
import types

import numpy as np
import pytest
import torch

from gsoc_kd.core.files import InputError, read_json, with_checksum
from gsoc_kd.training import runs

# ---------------------------------------------------------------- the folder


def test_a_new_folder_holds_the_config(tmp_path):
    folder = runs.open_folder(tmp_path / "a" / "run", {"verb": "distill", "widths": (4, 2), "real": None})
    written = json.loads((folder / "config.json").read_text())
    assert written == with_checksum({"verb": "distill", "widths": [4, 2], "real": None})
    runs.open_folder(folder, {"verb": "distill", "widths": (4, 2), "real": None})  # the same one again
    empty = tmp_path / "empty"
    empty.mkdir()
    assert (runs.open_folder(empty, {"verb": "x"}) / "config.json").exists()


def test_another_config_is_refused_and_every_field_that_differs_is_named(tmp_path):
    runs.open_folder(tmp_path / "run", {"verb": "distill", "lr": 0.1, "batch": 4, "seed": 0})
    before = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(InputError) as caught:
        runs.open_folder(tmp_path / "run", {"verb": "distill", "lr": 0.2, "batch": 4, "new": 1})
    message = str(caught.value)
    assert "lr 0.1 -> 0.2" in message and "seed 0 -> None" in message and "new None -> 1" in message
    assert "batch" not in message and str(tmp_path / "run") in message
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_a_run_may_go_on_for_longer(tmp_path):
    runs.open_folder(tmp_path / "run", {"verb": "distill", "kimg": 1, "seed": 0})
    with pytest.raises(InputError, match=r"config \(seed 0 -> 1\)"):
        runs.open_folder(tmp_path / "run", {"verb": "distill", "kimg": 2, "seed": 1})
    assert json.loads((tmp_path / "run" / "config.json").read_text())["kimg"] == 1
    runs.open_folder(tmp_path / "run", {"verb": "distill", "kimg": 2, "seed": 0}, main_process=False)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["kimg"] == 1
    runs.open_folder(tmp_path / "run", {"verb": "distill", "kimg": 2, "seed": 0})
    assert read_json(tmp_path / "run" / "config.json") == {"verb": "distill", "kimg": 2, "seed": 0}


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("mine")
    for name in ("file", "folder"):
        with pytest.raises(InputError, match=f"{name} exists and is not a run's folder"):
            runs.open_folder(tmp_path / name, {"verb": "distill"})
    (tmp_path / "network").mkdir()
    for value, told in (
        (with_checksum({"class": "ConvGenerator"}), "is not a run's"),
        ({"verb": "distill"}, "has no checksum"),
        (with_checksum({"verb": "distill"}) | {"verb": "pretrain"}, "does not fit its checksum"),
        (["verb"], "has no checksum"),
    ):
        (tmp_path / "network" / "config.json").write_text(json.dumps(value))
        with pytest.raises(InputError, match=f"config.json {told}"):
            runs.open_folder(tmp_path / "network", {"verb": "distill"})
    (tmp_path / "network" / "config.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        runs.open_folder(tmp_path / "network", {"verb": "distill"})
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["thesis.tex"]


def test_only_the_main_process_makes_the_folder(tmp_path):
    runs.open_folder(tmp_path / "run", {"verb": "distill"}, main_process=False)
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- randomness


def test_rng_is_a_function_of_seed_step_and_stream():
    keys = [(seed, step, stream) for seed in (0, 1) for step in (0, 1, 2) for stream in (0, 1, 99)]
    drawn = [torch.randn(100, generator=runs.rng(seed, step, stream=stream)) for seed, step, stream in keys]
    for a, key in zip(drawn, keys):
        assert torch.equal(a, torch.randn(100, generator=runs.rng(key[0], key[1], stream=key[2])))
    correlation = np.corrcoef(torch.stack(drawn).numpy()) - np.eye(len(keys))
    assert np.abs(correlation).max() < 0.45  # 100 numbers: standard error 0.1


@pytest.mark.parametrize("count, batch", [(12, 4), (13, 4), (4, 4), (5, 1)])
def test_every_row_comes_once_an_epoch(count, batch):
    batches, steps = runs.Batches(count, batch, seed=0), count // batch
    for epoch in range(3):
        rows = torch.cat([batches(epoch * steps + i) for i in range(steps)])
        assert rows.dtype == torch.int64 and len(rows) == steps * batch == len(set(rows.tolist()))
        assert 0 <= rows.min() and rows.max() < count  # all of them where the batch divides


def test_batches_are_a_function_of_seed_and_step():
    batches = runs.Batches(20, 4, seed=0)
    order = [batches(step) for step in range(15)]
    again = runs.Batches(20, 4, seed=0)
    for step in (14, 0, 7, 5, 4):  # in any order: no state
        assert torch.equal(again(step), order[step])
    epochs = [torch.cat(order[i : i + 5]) for i in (0, 5, 10)]
    others = [
        torch.cat([runs.Batches(20, 4, **changes)(step) for step in range(5)])
        for changes in (dict(seed=1), dict(seed=0, stream=1))
    ]
    for a in range(5):
        for b in range(a):
            assert not torch.equal([*epochs, *others][a], [*epochs, *others][b])


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(InputError, match="a batch of 5 needs at least as many images, there are 4"):
        runs.Batches(4, 5, seed=0)


# ---------------------------------------------------------------- checkpoints


def test_the_previous_checkpoint_is_kept(tmp_path):
    assert runs.load_checkpoint(tmp_path) is None
    for step in (1, 2, 3):
        runs.save_checkpoint(tmp_path, {"step": step, "w": torch.full((2,), step / 3)})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.previous.pt", "checkpoint.pt"]
    state = runs.load_checkpoint(tmp_path)
    assert state["step"] == 3 and torch.equal(state["w"], torch.ones(2))
    (tmp_path / "checkpoint.pt").unlink()
    assert runs.load_checkpoint(tmp_path)["step"] == 2


def test_no_flipped_bit_of_a_checkpoint_changes_what_is_read(tmp_path):
    state = {"step": 2, "w": torch.linspace(-1, 1, 40), "stats": [{"step": 2, "loss": 0.5}]}
    runs.save_checkpoint(tmp_path, {**state, "step": 1})
    runs.save_checkpoint(tmp_path, state)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True).keys() == {"step", "w"}  # torch reads it too
    assert runs.load_checkpoint(tmp_path)["stats"] == state["stats"]
    path, content = tmp_path / "checkpoint.pt", (tmp_path / "checkpoint.pt").read_bytes()
    for at in range(0, len(content), 7):
        path.write_bytes(content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :])
        with pytest.warns(UserWarning, match="checkpoint.pt .its sha256 is missing or differs. is damaged"):
            assert runs.load_checkpoint(tmp_path)["step"] == 1


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"x" * 1000])
def test_a_damaged_checkpoint_falls_back_with_a_warning_and_two_are_an_error(tmp_path, damage):
    for step in (1, 2):
        runs.save_checkpoint(tmp_path, {"step": step, "w": torch.zeros(1000)})
    newest, previous = tmp_path / "checkpoint.pt", tmp_path / "checkpoint.previous.pt"
    newest.write_bytes(damage(newest.read_bytes()))
    with pytest.warns(UserWarning, match=r"checkpoint\.pt .*is damaged; going on from .*\.previous\.pt"):
        assert runs.load_checkpoint(tmp_path)["step"] == 1
    previous.write_bytes(damage(previous.read_bytes()))
    with pytest.raises(InputError) as caught:
        runs.load_checkpoint(tmp_path)
    assert str(newest) in str(caught.value) and str(previous) in str(caught.value)


def test_of_a_huge_checkpoint_or_a_pipe_nothing_is_read(tmp_path):
    for step in (1, 2):
        runs.save_checkpoint(tmp_path, {"step": step})
    newest = tmp_path / "checkpoint.pt"
    with open(newest, "ab") as file:
        file.truncate(1 << 36)  # takes no room on the disk
    with pytest.warns(UserWarning, match="it has more than 100,000 bytes, which this run's networks need"):
        assert runs.load_checkpoint(tmp_path, most=100_000)["step"] == 1
    newest.unlink()
    os.mkfifo(newest)
    with pytest.warns(UserWarning, match="it is no file"):
        assert runs.load_checkpoint(tmp_path)["step"] == 1
    runs.save_checkpoint(tmp_path, {"step": 3})
    assert runs.load_checkpoint(tmp_path)["step"] == 3
    with open(tmp_path / "stats.jsonl", "ab") as file:
        file.truncate(1 << 36)
    with pytest.warns(UserWarning, match="stats.jsonl has more than 67,108,864 bytes; .* anew: done"):
        runs.write_stats(tmp_path, [{"step": 1}])
    assert runs.read_stats(tmp_path) == [{"step": 1}]


def test_nothing_in_a_checkpoint_can_run(tmp_path):
    torch.save({"step": 1, "w": types.SimpleNamespace()}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match="no checkpoint can be read"):
        runs.load_checkpoint(tmp_path)


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path, monkeypatch):
    runs.save_checkpoint(tmp_path, {"step": 1})

    def full(state, path):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InputError, match="cannot be written .*No space"):
        runs.save_checkpoint(tmp_path, {"step": 2})
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert runs.load_checkpoint(tmp_path)["step"] == 1


def test_there_is_no_moment_without_a_checkpoint(tmp_path, monkeypatch):
    runs.save_checkpoint(tmp_path, {"step": 1})
    rename, seen = runs.os.replace, []

    def watched(source, target):
        seen.append(runs.load_checkpoint(tmp_path)["step"])
        rename(source, target)
        seen.append(runs.load_checkpoint(tmp_path)["step"])

    monkeypatch.setattr(runs.os, "replace", watched)
    runs.save_checkpoint(tmp_path, {"step": 2})
    assert seen == [1, 1, 1, 2] and (tmp_path / "checkpoint.pt").exists()


def test_what_a_process_left_that_was_killed_in_its_first_moment_is_no_foreign_file(tmp_path):
    (tmp_path / ".config.json.999999999.tmp").write_text("{")
    runs.open_folder(tmp_path, {"verb": "distill"})
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


# ---------------------------------------------------------------- statistics


def test_stats_after_the_checkpoint_and_a_torn_line_are_cut_off(tmp_path):
    assert runs.read_stats(tmp_path) == []
    rows = [{"step": 2, "loss": 0.5}, {"step": 4, "loss": 0.25}, {"step": 6, "loss": 0.1}]
    for row in rows:
        runs.append_stats(tmp_path, row)
    path = tmp_path / "stats.jsonl"
    with open(path, "a") as file:
        file.write('{"step": 8, "lo')
    assert runs.read_stats(tmp_path) == rows and path.read_text().endswith('"lo')  # reading changes nothing
    runs.write_stats(tmp_path, rows[:2])
    assert runs.read_stats(tmp_path) == rows[:2]
    runs.append_stats(tmp_path, rows[2])
    assert [json.loads(line) for line in path.read_text().splitlines()] == [with_checksum(row) for row in rows]


def test_tensorboard_gets_the_numbers_of_a_row_and_is_closed(tmp_path, monkeypatch):
    told = []
    writer = types.SimpleNamespace(add_scalar=lambda *given: told.append(given), close=lambda: told.append("closed"))
    monkeypatch.setattr(runs, "_tensorboard", lambda folder: writer)
    runs.append_stats(tmp_path, {"step": 2, "loss": 0.5, "scores": {"fd": 1.0}, "name": "x", "none": None})
    assert told == [("step", 2, 2), ("loss", 0.5, 2), "closed"]


def test_no_flipped_bit_of_the_statistics_changes_a_row(tmp_path):
    rows = [{"step": 2, "loss": 0.5}, {"step": 4, "loss": 0.25}]
    for row in rows:
        runs.append_stats(tmp_path, row)
    path, content = tmp_path / "stats.jsonl", (tmp_path / "stats.jsonl").read_bytes()
    for bit in range(0, 8 * len(content), 3):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            assert runs.read_stats(tmp_path) == rows  # a space that is another space
        except InputError as error:
            assert "stats.jsonl, line" in str(error) and "resuming the run writes it anew" in str(error)


def test_what_is_not_finite_stops_the_run():
    network = torch.nn.Linear(2, 2)
    runs.check_finite({"step": 1, "pixel": 0.5}, network, 1, "runs/a")
    with pytest.raises(InputError) as caught:
        runs.check_finite({"pixel": float("nan"), "disc": 1.0, "gan": float("-inf")}, network, 30, "runs/a")
    assert "loss pixel, loss gan is not finite at step 30" in str(caught.value)
    assert "runs/a" in str(caught.value)
    network.weight.data[0, 1] = float("inf")
    with pytest.raises(InputError, match="a weight of the generator is not finite"):
        runs.check_finite({"pixel": 0.5}, network, 30, "runs/a")
