"""The curves of a run."""

from .files import InputError


def curves(stats, keys, x="kimg"):
    """Numbers of a run against its progress: a matplotlib Figure that is closed, so that a notebook shows it once.

    stats: a run's `stats`, a list of dicts; one without a key is left out of that key's curve. keys: names, or one.
    x: "kimg" (thousands of pairs or images seen), "step" or "seconds". InputError for a name that no dict has.
    """
    import matplotlib.pyplot as plt  # takes a second

    keys = [keys] if isinstance(keys, str) else list(keys)
    known = sorted({name for tick in stats for name, value in tick.items() if value is not None})
    if missing := [name for name in (x, *keys) if name not in known]:
        raise InputError(f"no tick has {missing[0]!r}; there are: {', '.join(known) or 'no ticks at all'}")
    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    plt.close(figure)
    shown = []
    for key in keys:
        points = [(tick[x], tick[key]) for tick in stats if tick.get(key) is not None and tick.get(x) is not None]
        axes.plot(*zip(*points), label=key, marker="." if len(points) < 30 else None)
        shown += [value for _, value in points]
    if min(shown) > 0 and max(shown) / min(shown) >= 30:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.set_xlabel("thousands of images seen" if x == "kimg" else x)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))  # beside the curves
    return figure
