"""What is given away is scored beside its own teacher, where that is the bundled one."""

import torch

from gsoc_kd.core.weights import save_network
from gsoc_kd.data.images import CIFAR10_CLASSES
from gsoc_kd.evaluation.publish import own_teacher, publish
from gsoc_kd.networks import ConvGenerator
from gsoc_kd.teachers import load_teacher


def test_a_student_of_the_bundled_teacher_is_scored_beside_it_under_its_own_class_names(tmp_path, monkeypatch):
    torch.manual_seed(0)
    network, given = ConvGenerator(z_dim=8, num_classes=10, widths=(8, 8, 8, 4), embed_dim=4), []
    scores = {"cifar_fd": 8.0, "class_accuracy": 0.5, "images": 10_000}
    note = lambda *args, **more: given.append((args, more)) or scores  # noqa: E731
    monkeypatch.setattr("gsoc_kd.evaluation.publish.evaluate", note)
    bundled, names = load_teacher().digest, CIFAR10_CLASSES[::-1]
    for digest in (bundled, "0" * 64, None):
        save_network(network, tmp_path / "student", {"teacher": digest, "classes": list(names)})
        assert publish(tmp_path / "student", tmp_path / "given") == scores
        (box,), options = given.pop()
        teacher = options.pop("teacher")
        assert box.classes == names and not options
        assert (teacher and teacher.digest) == (bundled if digest == bundled else None)
    assert own_teacher({}) is None  # a teacher itself, of an older run for instance
