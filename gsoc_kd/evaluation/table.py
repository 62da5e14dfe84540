"""The results table: what a generator costs, how fast it is, what it scores (docs/Results.md)."""

import statistics as numbers
import time

import torch

from ..pairs.make import draw_latents
from ..teachers.black_box import Teacher, black_box
from .reference import load_reference


def cost(network):
    """{"parameters": all of them, "macs": multiply-accumulates an image at batch 1}; for a Teacher, of the
    network behind it, both None where there is none."""
    if isinstance(network, Teacher):
        network = network.network
    if network is None:
        return {"parameters": None, "macs": None}
    from torch.utils.flop_counter import FlopCounterMode

    first, training = next(network.parameters()), network.training
    z = torch.zeros(1, network.z_dim, device=first.device)
    y = torch.zeros(1, dtype=torch.int64, device=first.device)
    network.eval()
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:  # without, convolutions may take short cuts
        network(z, y)
    network.train(training)
    return {"parameters": sum(p.numel() for p in network.parameters()), "macs": counter.get_total_flops() // 2}


def speed(generator, batch=256, seconds=2.0):
    """Images a second, as uint8 pictures: from the median time of a batch, of at least 3 and `seconds`."""
    teacher = black_box(generator, batch=batch)
    z, y = draw_latents(0, 0, batch, teacher.z_dim), torch.arange(batch) % teacher.num_classes
    teacher(z, y)  # warm up
    times = []
    while len(times) < 3 or sum(times) < seconds:
        start = time.perf_counter()
        teacher(z, y)
        times.append(time.perf_counter() - start)
    return batch / numbers.median(times)


def row(name, generator, scores):
    """A row for `table`: name, cost and measured speed of a generator, and its scores."""
    behind = generator.network if isinstance(generator, Teacher) else generator
    sizes = cost(behind if isinstance(behind, torch.nn.Module) else None)
    return {"name": name, **sizes, "images_per_second": speed(generator), **scores}


def floor_row(floor=None, name="real test images (floor)"):
    """First row of a table: what real images score, a result's `floor`; default: the embedded reference's."""
    return {"name": name, **(floor or load_reference().floor)}


def table(rows):
    """GitHub markdown of dicts with name, parameters, macs, images_per_second, cifar_fd, class_agreement, cifar_recall
    (what is missing shows as –), then a sentence on what the numbers mean, with the `images` of each row."""
    lines = [
        "| | parameters | MACs an image | images/s | CIFAR-FD | class agreement | CIFAR-recall |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    formats = {
        "parameters": _short,
        "macs": _short,
        "images_per_second": "{:,.0f}".format,
        "cifar_fd": "{:.2f}".format,
        "class_agreement": "{:.1%}".format,
        "cifar_recall": "{:.1%}".format,
    }
    for entry in rows:
        cells = ["–" if entry.get(key) is None else show(entry[key]) for key, show in formats.items()]
        lines.append(f"| {' | '.join([str(entry['name']), *cells])} |")
    counts = [(entry["name"], entry["images"]) for entry in rows if entry.get("images")]
    if len({count for _, count in counts}) == 1:
        told = f"{counts[0][1]:,} images a row"
    else:
        told = ", ".join(f"{name}: {count:,} images" for name, count in counts) or "image counts not given"
    against = next(
        (
            f", against {e['reference']['images']:,} real ones ({e['reference']['split']})"
            for e in rows
            if e.get("reference")
        ),
        "",
    )
    return "\n".join(
        [
            *lines,
            "",
            f"CIFAR-FD and CIFAR-recall are measured in the features of this package's "
            f"own judge and cannot be compared with published FID or recall; {told}{against}.",
        ]
    )


def _short(value):
    """1234567 -> '1.23 M'."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return str(value)
