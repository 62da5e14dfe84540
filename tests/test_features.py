"""The fixed classifier of the feature loss: it learns the pairs' classes, stands still, and lets gradients through."""
import numpy as np
import pytest
import torch

from gsoc_kd.discriminators import ProjectionDiscriminator
from gsoc_kd.features import FeatureClassifier, fixed_feature_loss, train_features


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
    assert all(torch.equal(t, again[n]) for n, t in learned[0].state_dict().items())      # spectral norms stand still


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
