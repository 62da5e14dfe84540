"""A wall of samples that can be clicked: a row for each class, made of core widgets (`Wall`)."""

import secrets
from types import SimpleNamespace

import numpy as np

from ..core.checks import whole
from ..data.images import CIFAR10_CLASSES
from ..evaluation.classifier import features
from .points import samples
from .views import SEEDS, wall_images, wall_mark, wall_places

ROWS, COLUMNS, CELL = 10, 6, 64  # classes shown at once, samples of each, pixels a side of a button
CANDIDATES = 64  # seeds for each class of which the classifier picks the surest
LIGHT = 1_000_000  # parameters up to which a student generates so many at once


class Wall:
    """Samples of a student as buttons: `click(label, seed)` is called for the one that was clicked, and
    `click(label, None)` for the name of a class.

    verdict: None, or images uint8 (N, H, W, 3) -> shares (N, C) of the student's classes; then the wall can show, for
    each class, the seeds of which the classifier is surest among CANDIDATES. `.parts` names the widgets: `box`,
    `cells` and `heads` (lists of buttons), `more`, `surest` (a checkbox), `note`; `.seeds` is int (rows, COLUMNS)."""

    def __init__(self, student, names, verdict, click, columns=COLUMNS):
        import ipywidgets as widgets

        self.student, self.names, self.click = student, names, click
        self.columns = columns = whole("columns", columns, 1, CANDIDATES)
        light = sum(parameter.numel() for parameter in student.parameters()) <= LIGHT
        self.verdict, self.page, self.smooth = verdict if light else None, 0, True
        self.rows, self.name = min(ROWS, len(names)), f"gsoc-kd-{secrets.token_hex(4)}"
        hidden = {"display": "none"}
        self.parts = parts = SimpleNamespace(
            cells=_buttons(self.rows * columns, "cell", {"width": f"{CELL}px", "height": f"{CELL}px"}),
            heads=_buttons(self.rows, "head", {"width": "7em", "height": f"{CELL}px"}),
            more=widgets.Button(description="more samples", layout={"width": "9em"}),
            surest=widgets.Checkbox(value=True, description="the surest only", indent=False, layout={"width": "9.5em"}),
            note=widgets.HTML(),
            places=widgets.HTML(wall_places(self.name, self.rows, columns), layout=hidden),
            images=widgets.HTML(layout=hidden),
            mark=widgets.HTML(layout=hidden),
        )
        lines = [[head, *parts.cells[row * columns :][:columns]] for row, head in enumerate(parts.heads)]
        across = {"grid_template_columns": f"7em repeat({columns}, {CELL}px)", "grid_gap": "3px", "padding": "3px"}
        across |= {"overflow": "auto"}  # on a phone
        grid = widgets.GridBox([button for line in lines for button in line], layout=across)
        grid.add_class(self.name)
        below = [parts.more] + [parts.surest] * (self.verdict is not None) + [parts.note]
        below = widgets.HBox(below, layout={"margin": "2px 0 0 7em", "align_items": "center", "flex_flow": "row wrap"})
        width = {"flex": "0 0 auto", "width": f"calc(7em + {columns * (CELL + 3) + 12}px)", "max_width": "100%"}
        parts.box = widgets.VBox([parts.places, parts.images, parts.mark, grid, below], layout=width)
        for number, button in enumerate(parts.cells):
            button.on_click(lambda _, number=number: self._clicked(number))
        for row, button in enumerate(parts.heads):
            button.on_click(lambda _, row=row: self.click(self.labels[row], None))
        parts.more.on_click(lambda _: self.turn(self.page + 1))
        parts.surest.observe(lambda _: self.turn(self.page), names="value")
        self.turn(0)

    def _clicked(self, number):
        row, column = divmod(number, self.columns)
        self.click(self.labels[row], int(self.seeds[row, column]))

    def turn(self, page):
        """Shows other samples: of more than ten classes the next ten, else the next seeds."""
        pages = -(-len(self.names) // self.rows)  # of classes
        first, self.page = min(page % pages * self.rows, len(self.names) - self.rows), page
        self.labels = list(range(first, first + self.rows))
        pick = self.verdict is not None and self.parts.surest.value
        count = CANDIDATES if pick else self.columns
        seeds = np.arange(count) + page // pages % (SEEDS // CANDIDATES) * CANDIDATES
        y = np.repeat(self.labels, count)
        self.images = samples(self.student, np.tile(seeds, self.rows), y)  # (rows * count, H, W, 3)
        best = np.tile(np.arange(count), (self.rows, 1))
        if pick:
            self.shares = self.verdict(self.images)[np.arange(len(y)), y].reshape(self.rows, count)
            best = (-self.shares).argsort(axis=1, kind="stable")[:, : self.columns]
        self.seeds = seeds[best]  # (rows, columns)
        self.images = self.images[(best + np.arange(self.rows)[:, None] * count).ravel()]
        for button, label in zip(self.parts.heads, self.labels):
            button.description = self.names[label]
        for number, button in enumerate(self.parts.cells):
            label = self.labels[number // self.columns]
            button.description = f"{self.names[label]} {self.seeds.flat[number]}"
            button.tooltip = f"{self.names[label]}, seed {self.seeds.flat[number]}: click to look at it"
        many = f"{len(seeds)} seeds for each class: {seeds[0]} to {seeds[-1]}"
        self.parts.note.value = f"of {many}" if pick else f"seeds {seeds[0]} to {seeds[-1]}"
        self.draw()

    def draw(self, smooth=None):
        """Shows the images again, smoothly or in squares."""
        self.smooth = self.smooth if smooth is None else smooth
        self.parts.images.value = wall_images(self.name, self.images, self.columns, self.smooth)

    def mark(self, label, seed):
        """Marks the class, and the sample if it is on the wall and the point is just that (a seed, not None)."""
        row = self.labels.index(label) if label in self.labels else None
        found = [] if row is None or seed is None else np.flatnonzero(self.seeds[row] == seed)
        cell = int(row * self.columns + found[0]) if len(found) else None
        self.parts.mark.value = wall_mark(self.name, row, cell)

    def best(self):
        """(label, seed) of the surest sample of the class that the classifier is surest of on average; the first one
        without a classifier."""
        row = int(self.shares.mean(axis=1).argmax()) if self.verdict is not None else 0
        return self.labels[row], int(self.seeds[row, 0])


def _buttons(count, kind, layout):
    """Buttons that share one layout and one style, of the CSS classes gsoc-kd-<kind> and gsoc-kd-<kind>-<number>."""
    import ipywidgets as widgets

    layout, style = widgets.Layout(margin="0", padding="0", **layout), widgets.ButtonStyle()
    made = [widgets.Button(layout=layout, style=style) for _ in range(count)]
    for number, button in enumerate(made):
        button.add_class(f"gsoc-kd-{kind}")
        button.add_class(f"gsoc-kd-{kind}-{number}")
    return made


def classifier_of(names, classifier):
    """How a classifier of CIFAR-10 sees images of classes with these names, in any order: a function of images uint8
    (N, 32, 32, 3) that gives shares (N, C)."""
    order = [CIFAR10_CLASSES.index(name) for name in names]

    def verdict(images):
        logits = features(images, classifier)[1][:, order].astype(np.float64)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)

    return verdict
