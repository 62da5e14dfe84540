"""The results table: what a generator costs, how fast it is, what it scores (docs/Results.md)."""

import statistics
import timeit

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..pairs.make import draw_latents
from ..teachers.black_box import Teacher, black_box
from .reference import load_reference


def cost(network):
    """{"parameters": all of them, "macs": multiply-accumulates an image at batch 1}; for a Teacher, of the
    network behind it, both None where there is none."""
    network = network.network if isinstance(network, Teacher) else network
    if not isinstance(network, torch.nn.Module):
        return {"parameters": None, "macs": None}
    device, training = next(network.parameters()).device, network.training
    z, y = torch.zeros(1, network.z_dim, device=device), torch.zeros(1, dtype=torch.int64, device=device)
    network.eval()
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:  # without, convolutions may take short cuts
        network(z, y)
    network.train(training)
    return {"parameters": sum(p.numel() for p in network.parameters()), "macs": counter.get_total_flops() // 2}


def speed(generator, batch=256, seconds=2.0):
    """uint8 images a second: from the median time of a batch, over at least 3 batches and `seconds`."""
    teacher, times = black_box(generator, batch=batch), []
    z, y = draw_latents(0, 0, batch, teacher.z_dim), torch.arange(batch) % teacher.num_classes
    teacher(z, y)  # warm up
    while len(times) < 3 or sum(times) < seconds:
        times.append(timeit.timeit(lambda: teacher(z, y), number=1))
    return batch / statistics.median(times)


def row(name, generator, scores):
    """A row for `table`: name, cost and measured speed of a generator, and its scores."""
    return {"name": name, **cost(generator), "images_per_second": speed(generator), **scores}


def floor_row(floor=None, name="real test images (floor)"):
    """First row of a table: what real images score, a result's `floor`; default: the bundled reference's."""
    return {"name": name, **(floor or load_reference().floor)}


def table(rows):
    """GitHub markdown of dicts with name, parameters, macs, images_per_second, cifar_fd, class_agreement, cifar_recall
    (what is missing shows as –), then a sentence on what the numbers mean, with the `images` of each row."""
    share = "{:.1%}".format
    columns = [("parameters", "parameters", _short), ("macs", "MACs an image", _short)]
    columns += [("images_per_second", "images/s", "{:,.0f}".format), ("cifar_fd", "CIFAR-FD", "{:.2f}".format)]
    columns += [("class_agreement", "class agreement", share), ("cifar_recall", "CIFAR-recall", share)]
    lines = [f"| | {' | '.join(title for _, title, _ in columns)} |", f"|---|{'--:|' * len(columns)}"]
    for entry in rows:
        cells = ["–" if entry.get(key) is None else show(entry[key]) for key, _, show in columns]
        lines.append(f"| {' | '.join([str(entry['name']), *cells])} |")
    counts = [(entry["name"], f"{entry['images']:,} images") for entry in rows if entry.get("images")]
    told = ", ".join(f"{name}: {count}" for name, count in counts) or "image counts not given"
    if len({count for _, count in counts}) == 1:
        told = f"{counts[0][1]} a row"
    for reference in [entry["reference"] for entry in rows if entry.get("reference")][:1]:
        told += f", against {reference['images']:,} real ones ({reference['split']})"
    scale = "CIFAR-FD and CIFAR-recall are measured in the features of this package's own judge"
    return "\n".join([*lines, "", f"{scale} and cannot be compared with published FID or recall; {told}."])


def _short(value):
    """1234567 -> '1.23 M'."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return str(value)
