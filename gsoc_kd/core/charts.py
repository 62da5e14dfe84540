"""Drawings of numbers: the curves of a run, a study's rows, what networks cost against how good they are.

Every function gives a matplotlib Figure that no one shows twice: it is closed, and a notebook shows what a cell gives.
"""

from statistics import mean

from .files import InputError


def curves(stats, keys, x="kimg"):
    """Draws numbers of a run against its progress.

    Args:
        stats: list of dicts, one a tick, as a run's `stats` or its stats.jsonl. A tick without a key is left
            out of that key's curve (scores are not measured at every tick).
        keys: names to draw, or one name.
        x: the name of the horizontal axis: "kimg", thousands of pairs or images seen, or "step" or "seconds".

    Returns:
        matplotlib Figure. Its vertical axis is logarithmic when all values are positive and span a factor 30.

    Raises:
        InputError: nothing in `stats`, or a name that no tick has.
    """
    import matplotlib.pyplot as plt

    keys = [keys] if isinstance(keys, str) else list(keys)
    known = sorted({name for tick in stats for name, value in tick.items() if value is not None})
    for name in [x, *keys]:
        if name not in known:
            raise InputError(f"no tick has {name!r}; there are: {', '.join(known) or 'no ticks at all'}")
    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    plt.close(figure)  # whoever called shows it; left open, a notebook would show it twice
    drawn = []
    for key in keys:
        ticks = [tick for tick in stats if tick.get(key) is not None and tick.get(x) is not None]
        points = [(tick[x], tick[key]) for tick in ticks]
        axes.plot(*zip(*points), label=key, marker="." if len(points) < 30 else None)
        drawn += [value for _, value in points]
    if min(drawn) > 0 and max(drawn) / min(drawn) >= 30:
        axes.set_yscale("log")
    axes.set_xlabel("thousands of pictures seen" if x == "kimg" else x)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))  # beside the curves
    axes.grid(alpha=0.3)
    return figure


def frontier(rows):
    """Draws what a generator costs against how far its pictures are from real ones: down and left is better.

    Args:
        rows: dicts as `evaluate.row` makes them: name, parameters, macs, cifar_fd. A row without a cost, as the floor
            of real images, becomes a horizontal line. "marker", of matplotlib, sets a row apart, as "*" the teacher's.

    Returns:
        matplotlib Figure: parameters at the left, multiply-accumulates an image at the right, both logarithmic.

    Raises:
        InputError: a row without a name or CIFAR-FD, or no row with a cost.
    """
    import matplotlib.pyplot as plt
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    for one in rows:
        if one.get("name") is None or one.get("cifar_fd") is None:
            raise InputError(
                f"a row of the frontier needs name and cifar_fd, this one has {', '.join(one) or 'nothing'}"
            )
    points = [one for one in rows if one.get("parameters") and one.get("macs")]
    if not points:
        raise InputError("no row has parameters and macs; rows as evaluate.row makes them do")
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    plt.close(figure)
    for axes, key, label in zip(panels, ("parameters", "macs"), ("parameters", "multiply-accumulates an image")):
        axes.set_xscale("log")
        for one in points:
            axes.scatter(
                one[key],
                one["cifar_fd"],
                s=100 if "marker" in one else 36,
                marker=one.get("marker", "o"),
                label=str(one["name"]),
            )
        for one in rows:
            if one not in points:
                axes.axhline(one["cifar_fd"], linestyle="--", color="grey", linewidth=1, label=str(one["name"]))
        axes.set_xlabel(label)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(EngFormatter())  # 200 k, 1 M
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
        axes.margins(x=0.1, y=0.08)
    panels[0].set_ylabel("CIFAR-FD")
    panels[1].legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    return figure


def ladder(rows, title):
    """A line for each row, the best (lowest mean) at the top, with a dot for each seed's number.

    Args:
        rows: {name: list of numbers}. The mean of the row `base`, where there is one, is a vertical line.
        title: what the numbers are.

    Returns:
        matplotlib Figure.

    Raises:
        InputError: no rows, or one without numbers.
    """
    import matplotlib.pyplot as plt

    if not rows or not all(rows.values()):
        raise InputError("a ladder needs at least one row, and at least one number in each")
    names = sorted(rows, key=lambda name: -mean(rows[name]))
    figure, axes = plt.subplots(figsize=(8, 0.8 + 0.3 * len(names)), layout="constrained")
    plt.close(figure)
    for height, name in enumerate(names):
        axes.plot(
            rows[name], [height] * len(rows[name]), "o", color="black" if name == "base" else "tab:blue", alpha=0.7
        )
    if "base" in rows:
        axes.axvline(mean(rows["base"]), color="grey", linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"{title}, lower is better")
    axes.grid(axis="x", alpha=0.3)
    return figure
