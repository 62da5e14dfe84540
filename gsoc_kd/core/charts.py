"""Charts of numbers: the curves of a run, the rows of a study, what networks cost against how good they are.

Every function gives a matplotlib Figure that is closed, so that a notebook shows it once.
"""

from statistics import mean

from .files import InputError


def _panels(width, height, count=1):
    """A Figure of so many inches and its panels, side by side."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, count, figsize=(width, height), sharey=True, layout="constrained", squeeze=False)
    plt.close(figure)
    for axes in panels[0]:
        axes.grid(alpha=0.3)
    return figure, panels[0]


def curves(stats, keys, x="kimg"):
    """Numbers of a run, a list of dicts (a run's `stats`), against its progress.

    A dict without a key is left out of that key's curve. `keys`: names, or one name. `x`: "kimg" (thousands of pairs
    or images seen), "step" or "seconds". InputError for a name that no dict has.
    """
    keys = [keys] if isinstance(keys, str) else list(keys)
    known = sorted({name for tick in stats for name, value in tick.items() if value is not None})
    if missing := [name for name in (x, *keys) if name not in known]:
        raise InputError(f"no tick has {missing[0]!r}; there are: {', '.join(known) or 'no ticks at all'}")
    figure, (axes,) = _panels(7, 3.5)
    shown = []
    for key in keys:
        points = [(tick[x], tick[key]) for tick in stats if tick.get(key) is not None and tick.get(x) is not None]
        axes.plot(*zip(*points), label=key, marker="." if len(points) < 30 else None)
        shown += [value for _, value in points]
    if min(shown) > 0 and max(shown) / min(shown) >= 30:
        axes.set_yscale("log")
    axes.set_xlabel("thousands of images seen" if x == "kimg" else x)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))  # beside the curves
    return figure


def frontier(rows):
    """What generators cost, in parameters and in multiply-accumulates, against CIFAR-FD: down and left is better.

    rows: dicts with name, parameters, macs, cifar_fd, as `evaluation.table.row` makes them. One without a cost, such
    as real images, is a horizontal line; "marker", of matplotlib, sets one apart. InputError where a number is missing.
    """
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    points = [row for row in rows if row.get("parameters") and row.get("macs")]
    if not points or any(row.get("name") is None or row.get("cifar_fd") is None for row in rows):
        raise InputError("a frontier needs name and cifar_fd in every row, and parameters and macs in at least one")
    figure, panels = _panels(9, 3.6, 2)
    for axes, key, label in zip(panels, ("parameters", "macs"), ("parameters", "multiply-accumulates an image")):
        for row in rows:
            if row not in points:
                axes.axhline(row["cifar_fd"], linestyle="--", color="grey", linewidth=1, label=str(row["name"]))
                continue
            look = {"s": 100, "marker": row["marker"]} if "marker" in row else {"s": 36}
            axes.scatter(row[key], row["cifar_fd"], label=str(row["name"]), **look)
        axes.set(xscale="log", xlabel=label)
        axes.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter=EngFormatter())  # 200 k, 1 M
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.1, y=0.08)
    panels[0].set_ylabel("CIFAR-FD")
    panels[1].legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    return figure


def ladder(rows, title):
    """A line for each row of {name: list of numbers}, the lowest mean at the top, with a dot for each number.

    `title` says what they are; the mean of the row `base` is a vertical line. InputError for a row without numbers.
    """
    if not rows or not all(rows.values()):
        raise InputError("a ladder needs at least one row, and at least one number in each")
    names = sorted(rows, key=lambda name: -mean(rows[name]))
    figure, (axes,) = _panels(8, 0.8 + 0.3 * len(names))
    axes.grid(False, axis="y")
    for height, name in enumerate(names):
        colour = "black" if name == "base" else "tab:blue"
        axes.plot(rows[name], [height] * len(rows[name]), "o", color=colour, alpha=0.7)
    if "base" in rows:
        axes.axvline(mean(rows["base"]), color="grey", linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"{title}, lower is better")
    return figure
