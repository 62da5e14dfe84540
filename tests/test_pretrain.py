"""Pretraining: one step computed by hand, resumed runs that end like uninterrupted ones, clear refusals."""
import importlib
import json

import numpy as np
import pytest
import torch

from gsoc_kd import runs
from gsoc_kd.discriminators import ProjectionDiscriminator
from gsoc_kd.files import InputError, read_json
from gsoc_kd.generators import ConvGenerator
from gsoc_kd.images import LabelledImages, to_float
from gsoc_kd.losses import logistic_discriminator, logistic_generator
from gsoc_kd.pretrain import PRESETS, R1_EVERY, PretrainConfig, averaged, pretrain
from gsoc_kd.teachers import GENERATORS
from gsoc_kd.weights import load_network

module = importlib.import_module("gsoc_kd.pretrain")
CLASSES = ("cat", "dog", "ship")
TIMES = {"seconds", "images_per_second"}


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Batch norm is measured on 32 pictures, not on 1,024."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(averaged, "__defaults__", (2, 16))
        yield


@pytest.fixture(scope="module")
def real():
    rng = np.random.default_rng(0)
    return LabelledImages(rng.integers(0, 256, (48, 32, 32, 3), np.uint8), np.arange(48) % 3, CLASSES, "toy")


def config(**changes):
    """4 ticks of 2 steps."""
    return PretrainConfig.preset("smoke", **{**dict(kimg=0.128, tick_kimg=0.032), **changes})


def untimed(stats):
    return [{key: value for key, value in row.items() if key not in TIMES} for row in stats]


def assert_same(a, b):
    a, b = a.state_dict(), b.state_dict()
    assert list(a) == list(b)
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.fixture(scope="module")
def whole(real, tmp_path_factory):
    return pretrain(real, config(), tmp_path_factory.mktemp("pretrain") / "run", "cpu")


# ---------------------------------------------------------------- the config

def test_presets_differ_from_the_defaults_in_named_fields_and_bad_fields_are_refused():
    assert PretrainConfig.preset("laptop") == PretrainConfig() and set(PRESETS) == {"smoke", "laptop", "gpu"}
    assert PretrainConfig.preset("laptop", seed=3).seed == 3
    for changes, message in ((dict(lr=0), "lr"), (dict(ema=1.0), "ema"), (dict(batch=1.5), "batch"),
                             (dict(shift=-1), "shift"), (dict(colour=1), "colour")):
        with pytest.raises(InputError, match=f"PretrainConfig.*{message}"):
            PretrainConfig.preset("smoke", **changes)


def test_what_cannot_be_trained_is_refused_and_the_folder_stays_free(real, tmp_path):
    for changes, message in (
            (dict(batch=64, group=4), "a batch of 64 needs at least as many images, there are 48"),
            (dict(widths=(8, 8)), "2 widths end at 8 pixels"), (dict(group=5), "multiple of group 5")):
        with pytest.raises(InputError, match=message):
            pretrain(real, config(**changes), tmp_path / "run", "cpu")
        assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- one step

def test_one_step_is_the_one_written_out_here(real, tmp_path):
    c = config(kimg=0.016, tick_kimg=0.016, shift=0, brightness=0.0, ema=0.0, bfloat16=False)
    run = pretrain(real, c, tmp_path / "run", "cpu")

    torch.manual_seed(c.seed)
    generator = ConvGenerator(8, 3, 32, c.widths, c.embed_dim)
    disc = ProjectionDiscriminator(3, 32, c.disc_width, c.group, spectral=False)
    optimizer = torch.optim.Adam(generator.parameters(), c.lr, betas=c.betas)
    disc_optimizer = torch.optim.Adam(disc.parameters(), c.disc_lr, betas=c.betas)
    rows = runs.Batches(48, 16, c.seed)(0)
    x, y = to_float(real.images[rows]), torch.from_numpy(real.labels)[rows]
    z = torch.randn(16, 8, generator=runs.rng(c.seed, 0))

    with torch.no_grad():
        generated = generator(z, y)
    disc_loss = logistic_discriminator(disc(x, y)[0], disc(generated, y)[0])
    x.requires_grad_(True)
    slope, = torch.autograd.grad(disc(x, y)[0].sum(), x, create_graph=True)
    r1 = slope.square().flatten(1).sum(1).mean()
    (disc_loss + c.r1 / 2 * R1_EVERY * r1).backward()                         # every 8th step, 8 times as much
    disc_optimizer.step()
    loss = logistic_generator(disc(generator(z, y), y)[0])
    generator.zero_grad()
    loss.backward()
    optimizer.step()

    assert len(run.stats) == 1 and run.stats[0]["step"] == 1 and run.stats[0]["kimg"] == 0.016
    assert run.stats[0]["disc"] == pytest.approx(disc_loss.item(), abs=1e-4)
    assert run.stats[0]["generator"] == pytest.approx(loss.item(), abs=1e-4)
    assert run.stats[0]["r1"] == pytest.approx(r1.item(), rel=1e-4)
    trained = torch.cat([p.flatten() for p in run.student.parameters()])
    expected = torch.cat([p.detach().flatten() for p in generator.parameters()])
    assert ((trained - expected).abs() < 1e-6).float().mean() > 0.97  # Adam's first step is a sign, which
    assert (trained - expected).abs().max() < 2.1 * c.lr                      # near 0 rounding may flip


# ---------------------------------------------------------------- what a run leaves behind

def test_a_run_leaves_statistics_a_film_and_the_averaged_generator(whole, real):
    assert [row["step"] for row in whole.stats] == [2, 4, 6, 8]
    assert [row["kimg"] for row in whole.stats] == [0.032, 0.064, 0.096, 0.128]
    assert all(set(row) - {"r1"} == {"step", "kimg", "generator", "disc", *TIMES} for row in whole.stats)
    assert ["r1" in row for row in whole.stats] == [True, False, False, False]    # counts every 8th step
    lines = (whole.folder / "stats.jsonl").read_text().splitlines()
    assert whole.stats == [json.loads(line) for line in lines]
    names = {p.name for p in whole.folder.iterdir()} - {"tensorboard"}  # that one only where it is installed
    assert names == {"checkpoint.previous.pt", "checkpoint.pt", "config.json", "film", "film.gif",
                     "stats.jsonl", "student"}
    frames = sorted(p.name for p in (whole.folder / "film").iterdir())
    assert frames == [f"000000{n}.png" for n in (2, 4, 6, 8)]
    assert not whole.student.training
    assert_same(load_network(whole.folder / "student", GENERATORS), whole.student)
    told = read_json(whole.folder / "student" / "provenance.json")
    assert told["classes"] == list(CLASSES) and told["config"]["batch"] == 16 and told["kimg"] == 0.128


def test_the_average_has_batch_norm_statistics_of_its_own_weights(whole):
    state = torch.load(whole.folder / "checkpoint.pt", weights_only=True)
    average = {name.removeprefix("module."): t for name, t in state["average"].items()}
    found, norms = dict(whole.student.named_buffers()), 0
    for name, parameter in whole.student.named_parameters():
        assert torch.equal(parameter, average[name])
    for name in found:
        if name.endswith("running_mean"):
            norms += 1
            assert not torch.allclose(found[name], average[name])  # those are the untrained generator's
    assert norms == 4
    again = torch.optim.swa_utils.AveragedModel(ConvGenerator(**whole.student.config))
    again.load_state_dict(state["average"])
    assert_same(averaged(again, 0, torch.device("cpu")), whole.student)


# ---------------------------------------------------------------- resume

@pytest.mark.parametrize("where, tick", [("save_checkpoint", 2), ("append_stats", 2), ("save_checkpoint", 1)])
def test_an_interrupted_run_ends_like_an_uninterrupted_one(whole, real, tmp_path, monkeypatch, where, tick):
    calls, original = [], getattr(runs, where)

    def interrupted(*args):
        original(*args)
        calls.append(args)
        if len(calls) == tick:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs, where, interrupted)
        with pytest.raises(KeyboardInterrupt):
            pretrain(real, config(), tmp_path / "run", "cpu")
    torch.manual_seed(123)  # the global state does not matter
    run = pretrain(real, config(), tmp_path / "run", "cpu")
    assert_same(run.student, whole.student)
    assert untimed(run.stats) == untimed(whole.stats)
    a, b = (torch.load(r.folder / "checkpoint.pt", weights_only=True) for r in (run, whole))
    torch.testing.assert_close(a, b, rtol=0, atol=0)  # weights, averages and Adam's moments
    for path in (whole.folder / "film").iterdir():
        assert (run.folder / "film" / path.name).read_bytes() == path.read_bytes()


def test_a_finished_run_called_again_does_no_step(whole, real, monkeypatch):
    before = {p: p.read_bytes() for p in whole.folder.rglob("*") if p.is_file()}
    monkeypatch.setattr(module, "logistic_generator", None)                      # a step would call it
    run = pretrain(real, config(), whole.folder, "cpu")
    assert_same(run.student, whole.student)
    assert run.stats == whole.stats
    assert {p: p.read_bytes() for p in whole.folder.rglob("*") if p.is_file()} == before


def test_another_seed_is_another_run_and_another_config_is_refused(whole, real, tmp_path):
    other = pretrain(real, config(kimg=0.032, seed=1), tmp_path / "run", "cpu")
    assert untimed(other.stats)[0] != untimed(whole.stats)[0]
    with pytest.raises(InputError, match=r"lr 0\.0002 -> 0\.001"):
        pretrain(real, config(lr=1e-3), whole.folder, "cpu")
    with pytest.raises(InputError, match="images 48 -> 47"):
        fewer = LabelledImages(real.images[1:], real.labels[1:], CLASSES, "toy")
        pretrain(fewer, config(), whole.folder, "cpu")


def test_a_loss_that_is_not_finite_stops_and_the_last_checkpoint_stays(real, tmp_path, monkeypatch):
    calls = []

    def breaks(logits):
        calls.append(logits)
        return logistic_generator(logits) * (float("nan") if len(calls) > 3 else 1)

    monkeypatch.setattr(module, "logistic_generator", breaks)
    with pytest.raises(InputError, match="loss generator is not finite at step 4"):
        pretrain(real, config(), tmp_path / "run", "cpu")
    state = runs.load_checkpoint(tmp_path / "run")
    assert state["step"] == 2 and all(t.isfinite().all() for t in state["generator"].values())
    assert len(runs.read_stats(tmp_path / "run")) == 1
    saved = load_network(tmp_path / "run" / "student", GENERATORS)
    assert all(p.isfinite().all() for p in saved.parameters())
