"""A classifier that learns from generated images alone, and how a classifier is trained."""

import numpy as np
import pytest
import torch

from gsoc_kd.core.files import InputError
from gsoc_kd.core.weights import network_hash
from gsoc_kd.data.images import LabelledImages
from gsoc_kd.evaluation.cas import cas, shift_and_flip, train_classifier


def stripes(count, seed, classes=("red", "green", "blue"), shown=(0, 1, 2), side=8):
    """Noisy images of three classes; class c shows the colour number shown[c]."""
    rng, labels = np.random.default_rng(seed), np.arange(count) % 3
    images = rng.integers(0, 60, (count, side, side, 3))
    images[np.arange(count), :, :, np.array(shown)[labels]] += 150
    return LabelledImages(images.astype(np.uint8), labels, classes, f"stripes {seed}")


TEST = stripes(60, 1)
MANY, EPOCHS = 96, 12


def test_the_score_is_what_was_learned_from_the_images_given():
    told = cas(stripes(MANY, 0), TEST, epochs=EPOCHS, progress=False)
    counts = {"cas_images": MANY, "cas_epochs": EPOCHS, "cas_test_images": 60}
    assert told == {"cas": 1.0, "cas_per_class": dict.fromkeys(TEST.classes, 1.0), **counts}
    wrong = cas(stripes(MANY, 0, shown=(1, 0, 2)), TEST, epochs=EPOCHS, progress=False)  # red things are called green
    assert wrong["cas_per_class"] == {"red": 0.0, "green": 0.0, "blue": 1.0} and wrong["cas"] == pytest.approx(1 / 3)


def test_test_images_are_matched_by_name():
    turned = LabelledImages(TEST.images, (TEST.labels + 1) % 3, ("blue", "red", "green"), "turned")
    assert cas(stripes(MANY, 0), turned, epochs=EPOCHS, progress=False)["cas"] == 1.0
    letters, small = stripes(9, 1, ("a", "b", "c")), stripes(9, 1, side=4)
    for other, message in ((letters, "has the classes"), (small, "in size, 4 and 8")):
        with pytest.raises(InputError, match=message):
            cas(stripes(MANY, 0), other, epochs=1, progress=False)


def test_the_seed_decides_and_the_callers_random_state_does_not():
    data, hashes = stripes(32, 0), []
    for seed, state in ((3, 0), (3, 1), (4, 0)):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        with torch.no_grad():
            hashes.append(network_hash(train_classifier(data, 1, 16, seed=seed)))
        assert torch.equal(torch.get_rng_state(), before)
    assert hashes[0] == hashes[1] != hashes[2]
    made = train_classifier(data, 1, 16)
    assert made.classes == data.classes and not made.training


def test_a_budget_that_is_none_is_refused():
    for epochs, batch, message in ((0, 8, "epochs must be .* at least 1, not 0"), (1, 33, "2 to 32, not 33")):
        with pytest.raises(InputError, match=message):
            train_classifier(stripes(32, 0), epochs, batch)


def test_every_shift_and_flip_happens_and_nothing_else():
    image = torch.randn(1, 3, 8, 8)
    padded = torch.nn.functional.pad(image, (2,) * 4, mode="reflect")[0]
    windows = [padded[:, i : i + 8, j : j + 8] for i in range(5) for j in range(5)]
    plain, flipped = ({w.numpy().tobytes() for w in some} for some in (windows, [w.flip(2) for w in windows]))
    seen = [one.numpy().tobytes() for one in shift_and_flip(image.expand(1000, -1, -1, -1))]
    assert set(seen) == plain | flipped and len(set(seen)) == 50  # one is missed with a chance of 1e-7
    assert 400 < sum(one in flipped for one in seen) < 600
