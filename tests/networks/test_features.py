"""The fixed classifier: it learns the pictures' classes, stands still, and lets gradients through; so do a disc's maps."""

import numpy as np
import pytest
import torch

from gsoc_kd.networks.discriminator import ProjectionDiscriminator
from gsoc_kd.networks.features import (
    FeatureClassifier,
    FeatureDiscriminator,
    FixedMaps,
    fixed_feature_loss,
    train_features,
)


def pictures(count=96):
    """Noise of three brightnesses: class and picture as a black box would give them."""
    y = torch.arange(count) % 3
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 80, (count, 16, 16, 3), np.uint8))
    return noise + (80 * y)[:, None, None, None].to(torch.uint8), y


def trained(seed=0):
    torch.manual_seed(0)
    classifier = FeatureClassifier(3, 16, width=4)
    share = train_features(classifier, *pictures(), batch=16, seed=seed, epochs=10)
    return classifier, share


@pytest.fixture(scope="module")
def learned():
    return trained()


def test_it_tells_the_classes_of_the_pairs(learned):
    classifier, share = learned
    assert share > 0.8
    x, y = pictures()
    right = classifier(x.permute(0, 3, 1, 2).float() / 127.5 - 1)[0].argmax(1) == y
    assert right.float().mean() > 0.8


def test_it_is_a_function_of_weights_and_seed_and_is_frozen(learned):
    again, other = trained()[0].state_dict(), trained(seed=1)[0].state_dict()
    for name, tensor in learned[0].state_dict().items():
        assert torch.equal(tensor, again[name]), name
    assert not torch.equal(other["output.weight"], again["output.weight"])
    assert not learned[0].training and not any(p.requires_grad or p.grad is not None for p in learned[0].parameters())
    learned[0](torch.randn(4, 3, 16, 16))
    assert all(torch.equal(t, again[n]) for n, t in learned[0].state_dict().items())  # spectral norms stand still


def test_its_maps_have_the_shapes_of_the_discs(learned):
    x = torch.randn(2, 3, 16, 16)
    logits, maps = learned[0](x)
    _, of_disc = ProjectionDiscriminator(3, 16, 4)(x, torch.tensor([0, 2]))
    assert logits.shape == (2, 3) and [m.shape for m in maps] == [m.shape for m in of_disc]


def test_the_loss_is_l1_of_the_weighted_maps_and_reaches_the_student_alone(learned):
    generator = torch.Generator().manual_seed(0)
    x_teacher, x_student = (torch.randn(4, 3, 16, 16, generator=generator, requires_grad=True) for _ in range(2))
    loss = fixed_feature_loss(learned[0], x_teacher, x_student)
    maps = [learned[0](x)[1] for x in (x_teacher, x_student)]
    expected = sum(w * (t - s).abs().mean() for w, t, s in zip((1 / 16, 1 / 8, 1 / 4, 1), *maps))
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert x_teacher.grad is None and x_student.grad.abs().max() > 0
    assert fixed_feature_loss(learned[0], x_student, x_student).item() == 0


# ---------------------------------------------------------------- a disc that looks through fixed features


@pytest.fixture
def disc(learned):
    torch.manual_seed(1)
    disc = FeatureDiscriminator(3, 16, width=4, spectral=False, features=4)
    disc.fixed.take(learned[0], torch.randn(64, 3, 16, 16))
    return disc


def test_fixed_maps_are_the_classifiers_with_a_spread_of_one(learned):
    fixed, x = FixedMaps(16, 4), torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert all((m == 0).all() for m in fixed(x))  # nothing taken yet
    fixed.take(learned[0], x)
    for m, original in zip(fixed(x), learned[0](x)[1], strict=True):
        torch.testing.assert_close(m, original / original.std())
        assert m.std().item() == pytest.approx(1, abs=1e-4)
    assert not list(fixed.parameters())


def test_nothing_that_trains_a_disc_changes_its_fixed_maps(disc):
    before = {name: tensor.clone() for name, tensor in disc.fixed.state_dict().items()}
    heads = [p.clone() for p in disc.heads.parameters()]
    optimizer = torch.optim.Adam(disc.train().requires_grad_(True).parameters(), 0.1)
    disc(torch.randn(8, 3, 16, 16), torch.arange(8) % 3)[0].square().mean().backward()
    optimizer.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in disc.fixed.state_dict().items())
    assert not any(torch.equal(old, new) for old, new in zip(heads, disc.heads.parameters()))
    assert before.keys() <= {name.removeprefix("fixed.") for name in disc.state_dict()}  # a checkpoint holds them


def test_its_logit_is_the_projection_discs_and_the_heads_sum(disc):
    x, y = torch.randn(5, 3, 16, 16), torch.tensor([0, 1, 2, 0, 1])
    plain = ProjectionDiscriminator(3, 16, width=4, spectral=False)
    plain.load_state_dict({name: t for name, t in disc.state_dict().items() if name in plain.state_dict()})
    expected, maps = plain(x, y)
    for head, m in zip(disc.heads, disc.fixed(x), strict=True):
        h = torch.nn.functional.leaky_relu(head.conv(m), 0.2).mean((2, 3))
        expected = expected + h @ head.output.weight[0] + head.output.bias + (head.embedding.weight.T[y] * h).sum(1)
    logits, own = disc(x, y)
    torch.testing.assert_close(logits, expected)
    assert all(torch.equal(a, b) for a, b in zip(own, maps))


def test_gradients_reach_the_picture_through_the_fixed_maps_and_twice(disc):
    """Once for the generator, twice for R1."""
    x = torch.randn(4, 3, 16, 16, requires_grad=True)
    with torch.no_grad():
        disc.output.weight.zero_(), disc.embedding.weight.zero_()  # the heads alone
    (slope,) = torch.autograd.grad(disc(x, torch.arange(4) % 3)[0].sum(), x, create_graph=True)
    slope.square().sum().backward()
    assert slope.abs().max() > 0 and disc.heads[0].conv.weight.grad.abs().max() > 0
    spectral = FeatureDiscriminator(3, 16, width=4, features=4)
    assert all(hasattr(layer, "parametrizations") for head in spectral.heads for layer in head.children())
