"""What only the authors run: it remakes what gsoc_kd/assets holds and the tables that tell of it. All need CIFAR-10.

python tools/assets.py embed --run runs/assets/student --name student
python tools/assets.py results, or calibrate, classifier (which scores), and after that reference, then cas
"""

import sys
import time
from pathlib import Path
from typing import Literal

import torch
import tyro

from gsoc_kd import evaluation
from gsoc_kd.core.figures import save_png, side_by_side
from gsoc_kd.core.files import ASSETS, read_json, write_json
from gsoc_kd.core.weights import load_network, network_folder, provenance, save_network
from gsoc_kd.data.images import load_images
from gsoc_kd.deployment import calibrate as calibration
from gsoc_kd.evaluation import (
    Classifier,
    accuracy,
    compute_reference,
    evaluate,
    load_classifier,
    lower_bound_row,
    per_class_table,
    rows,
    table,
)
from gsoc_kd.evaluation.cas import EPOCHS, train_classifier
from gsoc_kd.evaluation.imagenet import compute_imagenet_reference
from gsoc_kd.evaluation.publish import publish
from gsoc_kd.pairs import draw_latents
from gsoc_kd.teachers import load_teacher

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
from pages import check_block, main_program, write_block, written_by


def embed(run: Path, name: Literal["student", "teacher"] = "student"):
    """Puts the generator of a run of `distill` or `pretrain`, or of a network's folder, into the package, scored."""
    publish(run, ASSETS / name)


def results(cas: bool = True):
    """Scores both bundled networks anew, writes the block `results` of two pages and `per class` of one, and shows both
    networks on the same noise, all classes and the student's worst. `cas`: with CAS, which trains a classifier for
    each."""
    blocks = ("README.md", "results"), ("docs/Results.md", "results"), ("docs/Results.md", "per class")
    for page, block in blocks:
        check_block(page, block)
    networks = {f"bundled {name}": load_teacher(ASSETS / name) for name in ("teacher", "student")}
    given = dict(teacher=networks["bundled teacher"], imagenet=True)  # a teacher's distance to itself: of other noise
    given |= dict(test=load_images(split="test"), cas_epochs=EPOCHS) if cas else {}
    costs = rows(networks, dict.fromkeys(networks, {}))  # speeds first: what ran before changes how memory is had
    found = {name: evaluate(generator, **given) for name, generator in networks.items()}
    per_class = found["bundled student"]["cifar_fd_per_class"]
    classes, worst = [*per_class], max(per_class, key=per_class.get)
    shown = on_the_same_noise(networks, torch.arange(20) % len(classes), classes)
    save_png(shown, "docs/teacher-and-student.png", max_kb=100)
    shown = on_the_same_noise(networks, torch.full((40,), classes.index(worst)))
    save_png(shown, "docs/worst-class.png", max_kb=100)
    told = [lower_bound_row(found["bundled teacher"]["lower_bound"]), *({**one, **found[one["name"]]} for one in costs)]
    made = written_by("tools/assets.py results")
    texts = {"results": f"{table(told)} {made}"}
    texts["per class"] = f"{per_class_table(found)}\n\nWorst of the student: {worst}. {made}"
    print("\n\n".join(texts.values()))
    for page, block in blocks:
        write_block(page, block, texts[block])


def on_the_same_noise(networks, y, titles=()):
    """The two `networks` ({name: Teacher}) on one noise and the labels y (N,): ten columns, teacher above student,
    with the names of the columns above them."""
    shown = [generator(draw_latents(7, 0, len(y), generator.z_dim), y) for generator in networks.values()]
    return side_by_side(*shown, columns=10, scale=3, titles=titles)


def calibrate(draws: int = 5, images: int = 300, seed: int = 2000, page: Path = Path("docs/Deployment.md")):
    """Measures what INT8 costs the classifier, by what calibrated it, for assets/calibration.json and the page."""
    check_block(page, "calibration")
    real = load_images(), load_images(split="test")
    write_json(calibration.TABLE, result := calibration.calibrate(*real, draws=draws, images=images, seed=seed))
    write_block(page, "calibration", text := calibration.table(result))
    print(text)


def reference(folder: Path = ASSETS):
    """Measures the real images that scores compare with, as the classifier and as EfficientNet-lite0 see them."""
    real = load_images(), load_images(split="test")
    compute_imagenet_reference(*real, folder / "imagenet.npz")
    made = compute_reference(*real, load_classifier(), folder)
    print(f"{folder}: {made.overall.count:,} real images; lower bound CIFAR-FD {made.lower_bound['cifar_fd']:.3f}")


def cas(epochs: int = EPOCHS, seed: int = 0, folder: Path = ASSETS):
    """Trains a classifier on the real training images in the way of CAS, and notes in the reference what it scores."""
    scores = evaluation.cas(load_images(), load_images(split="test"), epochs, seed)
    about = read_json(folder / "reference.json")
    write_json(folder / "reference.json", {**about, "lower_bound": {**about["lower_bound"], **scores}}, check=True)
    print(f"{folder}: real training images have a CAS of {scores['cas']:.1%} after {epochs} epochs")


def classifier(out: Path = ASSETS / "classifier", epochs: int = 15, batch: int = 128, lr: float = 0.2,
          weight_decay: float = 5e-4, label_smoothing: float = 0.1, seed: int = 0):  # fmt: skip
    """Trains the classifier on CIFAR-10's training images and writes it in float16: 23 minutes on 2 CPU cores."""
    asked = {name: value for name, value in locals().items() if name != "out"}
    network_folder(out)  # refuses before the training, not after it
    train, test, start = load_images(), load_images(split="test"), time.monotonic()
    network = train_classifier(train, **asked, progress="train the classifier")
    scores = {"test_accuracy": accuracy(network, test)}
    command = "python tools/assets.py classifier " + " ".join(
        f"--{name.replace('_', '-')} {asked[name]}" for name in asked
    )
    data = f"{train.source}, {len(train)} images; scored on {test.source}, {len(test)} images"
    save_network(network, out, provenance(command, data, time.monotonic() - start, scores), torch.float16)
    print(f"{out}: {scores['test_accuracy']:.2%} of {len(test)} test images right")
    return load_network(out, (Classifier,))


if __name__ == "__main__":
    commands = (embed, results, calibrate, classifier, reference, cas)
    main_program(tyro.extras.subcommand_cli_from_dict, {command.__name__: command for command in commands})
