"""The results table: what a generator costs, how fast it is, what it scores (docs/Results.md)."""

from statistics import fmean

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..core.checks import device_of
from ..core.state import evaluating
from ..teachers.black_box import Teacher
from .reference import load_reference
from .timing import speeds


def cost(network):
    """{"parameters": all of them, "macs": multiply-accumulates an image at batch 1}; for a Teacher, of the
    network behind it, both None where there is none."""
    network = network.network if isinstance(network, Teacher) else network
    if not isinstance(network, torch.nn.Module):
        return {"parameters": None, "macs": None}
    device = device_of(network)
    z, y = torch.zeros(1, network.z_dim, device=device), torch.zeros(1, dtype=torch.int64, device=device)
    with evaluating(network), torch.enable_grad(), FlopCounterMode(display=False) as counter:
        network(z, y)  # without gradients, convolutions may take short cuts
    return {"parameters": sum(p.numel() for p in network.parameters()), "macs": counter.get_total_flops() // 2}


def rows(generators, scores):
    """Rows for `table` of {name: generator} and {name: its scores}; their speeds are measured in turn (timing.py)."""
    rates = speeds(generators, progress="measure speed")
    return [{"name": name, **cost(one), "images_per_second": rates[name], **scores[name]}
            for name, one in generators.items()]  # fmt: skip


def row(name, generator, scores):
    """One row for `table`, its speed measured alone. Speeds to be compared belong into one call of `rows`."""
    return rows({name: generator}, {name: scores})[0]


def lower_bound_row(lower_bound=None, name="real test images (lower bound)"):
    """First row of a table: what real images score, a result's `lower_bound`; default: the bundled reference's."""
    return {"name": name, **(lower_bound or load_reference().lower_bound)}


def table(rows):
    """GitHub markdown of dicts with name, parameters, macs, images_per_second, cifar_fd, class_accuracy, cifar_recall
    (what is missing shows as –), then a sentence on what the numbers mean, with the `images` of each row. Columns of
    cifar_fd_to_teacher, imagenet_fd and cas stand there where a generator has that score."""
    share, distance = "{:.1%}".format, "{:.2f}".format
    columns = [("parameters", "parameters", _short), ("macs", "MACs an image", _short)]
    columns += [("images_per_second", "images/s", "{:,.0f}".format), ("cifar_fd", "CIFAR-FD", distance)]
    columns += [("cifar_fd_to_teacher", "CIFAR-FD to teacher", distance), ("imagenet_fd", "ImageNet-FD", distance)]
    columns += [("class_accuracy", "class accuracy", share), ("cas", "CAS", share)]
    columns += [("cifar_recall", "CIFAR-recall", share)]
    generators = [entry for entry in rows if "parameters" in entry]  # real images have no such field
    some = {key for key in ("cifar_fd_to_teacher", "imagenet_fd", "cas") if all(e.get(key) is None for e in generators)}
    columns = [column for column in columns if column[0] not in some]
    lines = [f"| | {' | '.join(title for _, title, _ in columns)} |", f"|---|{'--:|' * len(columns)}"]
    for entry in rows:
        cells = ["–" if entry.get(key) is None else show(entry[key]) for key, _, show in columns]
        lines.append(f"| {' | '.join([str(entry['name']), *cells])} |")
    counts = [(entry["name"], f"{entry['images']:,} images") for entry in rows if entry.get("images")]
    told = ", ".join(f"{name}: {count}" for name, count in counts) or "image counts not given"
    if len({count for _, count in counts}) == 1:
        told = f"{counts[0][1]} for each row"
    for reference in [entry["reference"] for entry in rows if entry.get("reference")][:1]:
        told += f", against {reference['images']:,} real ones ({reference['split']})"
    for epochs, images in {(e["cas_epochs"], e["cas_images"]) for e in generators if e.get("cas")}:
        told += f"; CAS: {epochs} epochs of {images:,} images"
    scale = "CIFAR-FD and CIFAR-recall are measured in the features of this package's own evaluation classifier"
    return "\n".join([*lines, "", f"{scale} and cannot be compared with published FID or recall; {told}."])


def per_class_table(scores):
    """GitHub markdown of {name: what `evaluate` returned}: CIFAR-FD and class accuracy of each class, and beside them
    what real test images score, the `lower_bound` of the first. The last line: the mean. Nothing known: ""."""
    first = next(iter(scores.values()))
    named = {"real test images": first["lower_bound"]} if first.get("lower_bound") else {}
    columns = []
    for key, title, show in (("cifar_fd", "CIFAR-FD", "{:.2f}"), ("class_accuracy", "class accuracy", "{:.1%}")):
        for name, one in {**named, **scores}.items():
            if values := one.get(f"{key}_per_class"):
                columns.append((f"{title}, {name}", {**values, "mean": fmean(values.values())}, show.format))
    lines = [f"| | {' | '.join(title for title, _, _ in columns)} |", f"|---|{'--:|' * len(columns)}"]
    for name in columns[0][1] if columns else ():
        lines.append(f"| {name} | {' | '.join(show(values[name]) for _, values, show in columns)} |")
    return "\n".join(lines) if columns else ""


def _short(value):
    """1234567 -> '1.23 M'."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return str(value)
