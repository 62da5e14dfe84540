"""A teacher from real images: one step computed by hand, StyleGAN2's networks, clear refusals; the loop's promises
stand in test_loop.py."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

from gsoc_kd.core.files import InputError, read_json
from gsoc_kd.core.weights import load_network
from gsoc_kd.data import LabelledImages, to_float
from gsoc_kd.networks import ConvGenerator, ProjectionDiscriminator, StyleGAN2Generator
from gsoc_kd.teachers import GENERATORS
from gsoc_kd.training import gan
from gsoc_kd.training.augment import augment
from gsoc_kd.training.distill import DistillConfig
from gsoc_kd.training.gan import PRESETS, R1_EVERY, GanTask, PretrainConfig, make_networks, pretrain
from gsoc_kd.training.losses import logistic_discriminator, logistic_generator

PACKAGE = Path(__file__).resolve().parents[2] / "gsoc_kd"
STYLE = dict(architecture="stylegan2", disc="stylegan2", w_dim=8, channel_base=128, channel_max=8, lr=2.5e-3,
             disc_lr=2.5e-3, r1=0.01)  # fmt: skip
CLASSES, TIMES = ("cat", "dog", "ship"), {"seconds", "imgs_per_second"}


@pytest.fixture(scope="module")
def real():
    rng = np.random.default_rng(0)
    return LabelledImages(rng.integers(0, 256, (48, 32, 32, 3), np.uint8), np.arange(48) % 3, CLASSES, "toy")


def config(**changes):
    """4 ticks of 2 steps."""
    return PretrainConfig.preset("smoke", **{**dict(kimg=0.128, tick_kimg=0.032), **changes})


def untimed(stats):
    return [{key: value for key, value in row.items() if key not in TIMES} for row in stats]


def test_presets_and_what_they_build():
    assert PretrainConfig.preset("laptop") == PretrainConfig()
    assert set(PRESETS) == {"smoke", "laptop", "gpu", "stylegan2-ada"}
    with torch.device("meta"):
        generator, disc = make_networks(PretrainConfig.preset("gpu"), 10, 32)
        official = make_networks(PretrainConfig.preset("stylegan2-ada"), 10, 32)
    assert 2 * sum(t.numel() for t in generator.state_dict().values()) <= 16e6  # bytes in float16
    assert not any(hasattr(conv, "parametrizations") for conv in disc.convs)  # R1 instead of spectral norm
    assert [sum(p.numel() for p in n.parameters()) for n in official] == [20_215_315, 23_089_664]


def test_what_cannot_be_trained_is_refused_and_the_folder_stays_free(real, tmp_path):
    with pytest.raises(InputError, match="config must be a PretrainConfig, such as .* not DistillConfig"):
        pretrain(real, DistillConfig(), tmp_path / "run", "cpu")
    with pytest.raises(InputError, match="real must be LabelledImages or what load_images takes, not 3"):
        pretrain(3, config(), tmp_path / "run", "cpu")
    for changes, message in (
        (dict(batch=64, group=4), "a batch of 64 needs at least as many images, there are 48"),
        (dict(widths=(8, 8)), "2 widths end at 8 pixels"),
        (dict(group=5), "multiple of group 5"),
        (dict(architecture="vae"), "architecture must be one of conv, stylegan2, got 'vae'"),
        (dict(w_dim=0), "w_dim"),
    ):
        with pytest.raises(InputError, match=message):
            pretrain(real, config(**changes), tmp_path / "run", "cpu")
        assert not (tmp_path / "run").exists()


def test_one_step_is_the_one_written_out_here(real, tmp_path):
    c = config(kimg=0.016, tick_kimg=0.016, ema=0.0, bfloat16=False)
    run = pretrain(real, c, tmp_path / "run", "cpu")

    torch.manual_seed(c.seed)
    generator = ConvGenerator(8, 3, 32, c.widths, c.embed_dim)
    disc = ProjectionDiscriminator(3, 32, c.disc_width, c.group)
    optimizer = torch.optim.Adam(generator.parameters(), c.lr, betas=c.betas)
    disc_optimizer = torch.optim.Adam(disc.parameters(), c.disc_lr, betas=c.betas)
    task = GanTask(real, c)
    task.place(torch.device("cpu"), 0, 1)
    task.noise_numbers = 0
    drawn = {name: tensor[0] for name, tensor in task.draw(0).items()}
    rows, z, draws = drawn["rows"].numpy(), drawn["z"], list(zip(drawn["light"].split(16), drawn["theta"].split(16)))
    y = torch.from_numpy(real.labels)[rows]

    with torch.no_grad():
        generated = augment(generator(z, y), *draws[1])
    x = augment(to_float(real.images[rows]), *draws[0])
    disc_loss = logistic_discriminator(disc(x, y)[0], disc(generated, y)[0])
    x.requires_grad_(True)
    (slope,) = torch.autograd.grad(disc(x, y)[0].sum(), x, create_graph=True)
    r1 = slope.square().flatten(1).sum(1).mean()
    (disc_loss + c.r1 / 2 * R1_EVERY * r1).backward()  # every 8th step, 8 times as much
    disc_optimizer.step()
    loss = logistic_generator(disc(augment(generator(z, y), *draws[2]), y)[0])
    generator.zero_grad()
    loss.backward()
    optimizer.step()

    assert len(run.stats) == 1 and run.stats[0]["step"] == 1 and run.stats[0]["kimg"] == 0.016
    assert run.stats[0]["disc"] == pytest.approx(disc_loss.item(), abs=1e-4)
    assert run.stats[0]["generator"] == pytest.approx(loss.item(), abs=1e-4)
    assert run.stats[0]["r1"] == pytest.approx(r1.item(), rel=1e-4)
    trained = torch.cat([p.flatten() for p in run.generator.parameters()])
    expected = torch.cat([p.detach().flatten() for p in generator.parameters()])
    assert ((trained - expected).abs() < 1e-6).float().mean() > 0.97  # Adam's first step is a sign, which
    assert (trained - expected).abs().max() < 2.1 * c.lr  # near 0 rounding may flip


def test_real_images_are_mirrored_by_chance(real, monkeypatch):
    shown = []
    monkeypatch.setattr(gan, "gan_step", lambda nets, x, y, *rest: shown.append((x, y)) or {})
    for mirror in (False, True):
        task = GanTask(real, config(mirror=mirror))
        task.networks()
        task.place(torch.device("cpu"), 0, 1)
        drawn = task.draw(0)
        for i in range(2):
            task.step(None, {name: tensor[i] for name, tensor in drawn.items()}, i, None, None)
            x, (seen, _) = to_float(real.images[drawn["rows"][i].numpy()]), shown.pop()
            kept = (seen == x).flatten(1).all(1)
            assert ((seen == x.flip(3)).flatten(1).all(1) ^ kept).all()
            assert 0 < kept.sum() < 16 if mirror else kept.all()


def test_r1_counts_every_eighth_step_and_not_at_weight_0(real, tmp_path):
    run = pretrain(real, config(kimg=0.144, tick_kimg=0.016), tmp_path / "run", "cpu")
    assert [row["step"] for row in run.stats if "r1" in row] == [1, 9]
    told = read_json(run.folder / "generator" / "provenance.json")
    assert told["command"].startswith(f"gsoc-kd pretrain --real toy --size 32 --out {run.folder} --kimg 0.144 ")
    assert told["classes"] == list(CLASSES) and told["data"] == "toy, 48 images"
    without = pretrain(real, config(kimg=0.016, r1=0.0), tmp_path / "without", "cpu")
    assert set(without.stats[0]) == {"step", "kimg", "disc", "generator", *TIMES}


def test_mixed_precision_rounds_but_learns_the_same(real, tmp_path):
    told = {}
    for bfloat16 in (False, True):
        run = pretrain(real, config(bfloat16=bfloat16, kimg=0.064, tick_kimg=0.016), tmp_path / str(bfloat16), "cpu")
        told[bfloat16] = run, read_json(run.folder / "generator" / "provenance.json")["precision"]
        assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in run.generator.parameters())
    (exact, float32), (mixed, half) = told[False], told[True]
    assert (float32, half) == ("float32", "bfloat16")
    for name in ("disc", "generator"):
        losses = [[row[name] for row in run.stats] for run in (exact, mixed)]
        assert losses[0] != losses[1]
        np.testing.assert_allclose(*losses, rtol=0.05)


def test_another_seed_is_another_run_and_other_images_are_refused(real, tmp_path):
    first = pretrain(real, config(kimg=0.032), tmp_path / "run", "cpu")
    other = pretrain(real, config(kimg=0.032, seed=1), tmp_path / "other", "cpu")
    assert untimed(other.stats) != untimed(first.stats)
    with pytest.raises(InputError, match="48 images, sha256 .* -> .toy, 47 images"):
        fewer = LabelledImages(real.images[1:], real.labels[1:], CLASSES, "toy")
        pretrain(fewer, config(kimg=0.032), first.folder, "cpu")


# ---------------------------------------------------------------- StyleGAN2's networks


@pytest.fixture(scope="module")
def styled(real, tmp_path_factory):
    return pretrain(real, config(**STYLE, kimg=0.064), tmp_path_factory.mktemp("styled") / "run", "cpu")


def test_a_stylegan2_teacher_is_trained_averaged_and_centred(styled):
    network = styled.generator
    assert isinstance(load_network(styled.folder / "generator", GENERATORS), StyleGAN2Generator)
    state = torch.load(styled.folder / "checkpoint.pt", weights_only=True)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter, state["average"][name], rtol=0, atol=0)
    strengths = [p for name, p in network.named_parameters() if name.endswith("noise_strength")]
    assert all(p.abs() > 0 for p in strengths)  # trained with noise images
    for name, buffer in network.named_buffers():
        if name.endswith("noise"):
            assert torch.equal(buffer, state["generator"][name])  # "const" stays what it was
    spread = network.styles(torch.randn(3000, 8), torch.arange(3000) % 3)
    assert (spread.mean(0) - network.w_avg).abs().max() < 0.1 * spread.std() and network.w_avg.any()


def test_a_stylegan2_run_resumes_exactly(styled, real, tmp_path):
    def stop(_, row):
        if row["step"] == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(real, config(**STYLE, kimg=0.064), tmp_path / "run", "cpu", on_tick=stop)
    run = pretrain(real, config(**STYLE, kimg=0.064), tmp_path / "run", "cpu")
    torch.testing.assert_close(run.generator.state_dict(), styled.generator.state_dict(), rtol=0, atol=0)
    assert untimed(run.stats) == untimed(styled.stats)


def test_real_and_generated_images_are_never_in_one_group_of_the_minibatch_deviation(real):
    """The logits of real images are the same, whatever is generated beside them."""
    x, y = to_float(real.images[:16]), torch.nn.functional.one_hot(torch.from_numpy(real.labels[:16]), 3).float()
    for changes in ({}, STYLE):
        _, disc = make_networks(config(**changes, group=8), 3, 32)
        beside = [disc(torch.cat([x, other]), torch.cat([y, y]))[0][:16] for other in (torch.zeros_like(x), -x)]
        torch.testing.assert_close(*beside, rtol=0, atol=1e-6)
        other = torch.cat([-x[:1], x[1:]])
        assert not torch.allclose(disc(other, y)[0][1:8], beside[0][1:8])  # within a group they do count


# ---------------------------------------------------------------- the evaluation classifier is out of reach


def reachable(name, found):
    """Adds to `found` the modules of the package that `name`, a path with dots, imports, and they in turn."""
    path = PACKAGE.joinpath(*name.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if name in found or not path.is_file():
        return found
    found.add(name)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = [*path.relative_to(PACKAGE).parts[:-1]]
            home = ".".join(folder[: len(folder) - node.level + 1] + ([node.module] if node.module else []))
            for other in [home, *(f"{home}.{alias.name}" for alias in node.names)]:
                reachable(other, found)
    return found


@pytest.mark.parametrize("trainer", ["training.gan", "training.distill"])
def test_nothing_that_trains_generators_can_reach_the_evaluation_classifier(trainer):
    found = reachable(trainer, set())
    assert {"training.loop", "training.blocks", "networks.conv", "core.files"} <= found
    assert not [name for name in found if name.startswith("evaluation")]
    assert {"evaluation.classifier", "evaluation.metrics"} <= reachable("evaluation.evaluate", set())  # it does search
