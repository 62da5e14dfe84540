"""Charts of the studies, matplotlib Figures: what networks cost against how good they are, and numbers row by row."""

from statistics import mean

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter


def frontier(rows):
    """What generators cost, in parameters and in multiply-accumulates, against CIFAR-FD: down and left is better. Rows
    are those of `evaluation.table.row`; one without a cost, such as real images, is a line, "marker" sets one apart."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, key, label in zip(panels, ("parameters", "macs"), ("parameters", "multiply-accumulates an image")):
        for row in rows:
            if row.get(key):
                look = {"s": 100, "marker": row["marker"]} if "marker" in row else {"s": 36}
                axes.scatter(row[key], row["cifar_fd"], label=row["name"], **look)
            else:
                axes.axhline(row["cifar_fd"], linestyle="--", color="grey", linewidth=1, label=row["name"])
        axes.set(xscale="log", xlabel=label)
        axes.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter=EngFormatter())  # 200 k, 1 M
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.1, y=0.08)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("CIFAR-FD")
    panels[1].legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    return figure


def ladder(rows, title):
    """A line for each row of {name: list of numbers}, the lowest mean at the top, with a dot for each number, of which
    `title` says what they are; the mean of the row `base` is a vertical line."""
    names = sorted(rows, key=lambda name: -mean(rows[name]))
    figure = Figure(figsize=(8, 0.8 + 0.3 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.grid(axis="x", alpha=0.3)
    for height, name in enumerate(names):
        colour = "black" if name == "base" else "tab:blue"
        axes.plot(rows[name], [height] * len(rows[name]), "o", color=colour, alpha=0.7)
    if "base" in rows:
        axes.axvline(mean(rows["base"]), color="grey", linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"{title}, lower is better")
    return figure
