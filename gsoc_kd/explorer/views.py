"""What the widgets show, as bytes and HTML: enlarged images, differences, bars of a classifier, a wall of buttons, and
the layout of the explorer."""

import base64
import io
import re
from html import escape
from types import SimpleNamespace

import numpy as np
from PIL import Image

from ..core.figures import grid, png_bytes
from .points import truncatable

SEEDS = 10_000  # seeds from 0 to 9,999 are shown
AMPLIFY = 2  # times that a difference is shown brighter than it is
ACCENT, PLAIN = "#ff7a1a", "#8a9aa9"  # of what is meant, of all else; seen on light and on dark pages


def enlarged(image, scale=6, smooth=False):
    """An image uint8 (H, W, 3) as a PNG `scale` times as wide: each pixel a square, or all smoothly (Lanczos)."""
    if not smooth:
        return png_bytes(grid(image[None], columns=1, scale=scale, pad=0))
    size = image.shape[1] * scale, image.shape[0] * scale
    buffer = io.BytesIO()  # quickly: a hand on a slider waits for it
    Image.fromarray(image).resize(size, Image.Resampling.LANCZOS).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def difference(a, b):
    """Two images uint8 (H, W, 3) -> where they differ, uint8 (H, W, 3), AMPLIFY times as bright as it is; and how much,
    the mean in grey levels (0 to 255)."""
    apart = np.abs(a.astype(np.int16) - b)
    return (apart * AMPLIFY).clip(0, 255).astype(np.uint8), float(apart.mean())


def bars(shares, names, asked):
    """A classifier's shares (C,) in [0, 1] as HTML: a bar for each class, that of index `asked` coloured."""
    width = f"{max(map(len, names)) * 0.62:.1f}em"
    rows = ['<div style="padding:3px 0 2px">the evaluation classifier sees</div>']
    for index, (name, share) in enumerate(zip(names, shares)):
        colour, weight = (ACCENT, "bold") if index == asked else (PLAIN, "normal")
        rows.append(
            f'<div style="display:flex;align-items:center;height:13px;font-weight:{weight}">'
            f'<span style="width:{width};text-align:right;padding-right:5px">{escape(name)}</span>'
            f'<span style="width:{round(72 * share)}px;height:8px;background:{colour};border-radius:2px"></span>'
            f'<span style="padding-left:4px">{share:.0%}</span></div>'
        )
    return f'<div style="font-size:11px;line-height:13px">{"".join(rows)}</div>'


def link(png, role, names, seed, y, to, mix, seed_to, walk):
    """A button that is a link: the browser saves the image, wherever the kernel runs, under a name such as
    gsoc_kd-student-ship-seed7.png; mix and walk are named where they are not 0."""
    shown = names[y] + (f"-to-{names[to]}-{mix:.2f}" if mix else "")
    place = f"seed{seed}" + (f"-to-{seed_to}-{walk:.2f}" if walk else "")
    name = re.sub(r"[^\w.-]+", "_", f"gsoc_kd-{role}-{shown}-{place}") + ".png"
    button = f'<a class="jupyter-button widget-button" style="text-decoration: none" download="{name}"'
    return f'{button} href="data:image/png;base64,{base64.b64encode(png).decode()}">save PNG</a>'


# A wall: an Image cannot be clicked, a Button can. Each button shows its part of one image, as CSS gives it to it.


def wall_places(name, rows, columns):
    """The style of rows x columns buttons of the classes `gsoc-kd-cell` and `gsoc-kd-cell-<number>` in a box of the
    class `name`: which part of the image each one shows."""
    across, down = max(columns - 1, 1), max(rows - 1, 1)
    rules = [
        f".{name} .gsoc-kd-cell-{row * columns + column} "
        f"{{background-position:{100 * column / across:g}% {100 * row / down:g}%}}"
        for row in range(rows)
        for column in range(columns)
    ]
    cell = f"background-size:{100 * columns}% {100 * rows}%;font-size:0;cursor:pointer;border-radius:4px"
    hover = "outline:2px solid currentColor;box-shadow:none"
    head = "background:none;text-align:right;font-size:13px;cursor:pointer;box-shadow:none"
    rules += [
        f".{name} .gsoc-kd-cell {{{cell}}}",
        f".{name} .gsoc-kd-cell:hover,.{name} .gsoc-kd-cell:focus-visible {{{hover}}}",
        f".{name} .gsoc-kd-head {{{head}}}",
        f".{name} .gsoc-kd-head:hover {{text-decoration:underline}}",
    ]
    return f"<style>{''.join(rules)}</style>"


def wall_images(name, images, columns, smooth):
    """The style that gives the buttons of `wall_places` the images uint8 (N, H, W, 3), row after row."""
    data = base64.b64encode(png_bytes(grid(images, columns=columns, scale=1, pad=0))).decode()
    how = "auto" if smooth else "pixelated"
    rule = f"background-image:url(data:image/png;base64,{data});image-rendering:{how}"
    return f"<style>.{name} .gsoc-kd-cell {{{rule}}}</style>"


def wall_mark(name, row, cell):
    """The style that marks a row's head, and a cell by number (None: none)."""
    rules = f".{name} .gsoc-kd-head-{row} {{color:{ACCENT};font-weight:bold}}"
    if cell is not None:
        rules += f".{name} .gsoc-kd-cell-{cell} {{outline:3px solid {ACCENT} !important;z-index:1}}"
    return f"<style>{rules}</style>"


# ---------------------------------------------------------------- the page of `explore`


def controls(names, teacher):
    """The widgets by name, and the rows of controls."""
    import ipywidgets as widgets

    options, psi = [(name, index) for index, name in enumerate(names)], 1.0 if teacher is None else teacher.psi
    look = {"style": {"description_width": "6.5em"}, "layout": {"width": "22em"}}

    def slider(kind, description, most, step, value=0):
        ends = {"min": min(0, value), "max": max(most, value)}
        return kind(value=value, description=description, **ends, step=step, continuous_update=True, **look)

    parts = SimpleNamespace(
        label=widgets.Dropdown(options=options, value=0, description="class", **look),
        to=widgets.Dropdown(options=options, value=min(1, len(names) - 1), description="second class", **look),
        mix=slider(widgets.FloatSlider, "mix", 1.0, 0.01),
        seed=slider(widgets.IntSlider, "seed", SEEDS - 1, 1),
        new_seed=widgets.Button(description="new seed", layout={"width": "7em"}),
        seed_to=slider(widgets.IntSlider, "second seed", SEEDS - 1, 1, value=1),
        walk=slider(widgets.FloatSlider, "walk", 1.0, 0.01),
        play=widgets.Play(value=0, min=0, max=40, interval=100),
        beside=widgets.Checkbox(teacher is not None, description="teacher", indent=False, layout={"width": "7em"}),
        look=widgets.ToggleButtons(options=["smooth", "squares"], value="smooth", style={"button_width": "5.5em"}),
        psi=slider(widgets.FloatSlider, "truncation", 1.0, 0.01, psi),
    )
    parts.play.set_trait("repeat" if parts.play.has_trait("repeat") else "_repeat", True)  # ipywidgets 8, 7
    rows = [[parts.label, parts.seed], [parts.to, parts.mix], [parts.seed_to, parts.walk]]
    last = [parts.play, parts.new_seed, parts.look]
    if teacher is not None:  # a black box shows no knob that it has not
        made = "" if psi == 1 else f"; this one was made with psi {psi:g}"
        label = widgets.Label(f"truncation: this teacher has none{made}")
        last += [parts.beside, parts.psi if truncatable(teacher) else label]
    return parts, [*rows, last]


def arranged(parts, wall, rows, two):
    """Adds the images to `parts` and returns the box that holds everything; `two`: there is a teacher."""
    import ipywidgets as widgets

    column = {"margin": "0 12px 6px 0", "align_items": "flex-start"}
    for name in ("student", "teacher", "difference"):
        setattr(parts, name, widgets.Image(format="png"))
    parts.student_title, parts.title, parts.apart_title = (
        widgets.Label(text) for text in ("student", "teacher", "difference")
    )
    narrow = {"layout": {"max_width": "14em"}}
    parts.note, parts.apart_note = widgets.HTML(**narrow), widgets.HTML(**narrow)
    for name in ("save_student", "save_teacher", "verdict_student", "verdict_teacher"):
        setattr(parts, name, widgets.HTML())
    left = [parts.student_title, parts.student, parts.verdict_student, parts.save_student]
    middle = [parts.title, parts.teacher, parts.verdict_teacher, parts.save_teacher, parts.note]
    right = [parts.apart_title, parts.difference, parts.apart_note]
    hidden = column | ({} if two else {"display": "none"})
    parts.panel, parts.apart = widgets.VBox(middle, layout=hidden), widgets.VBox(right, layout=hidden)
    wrap = {"flex_flow": "row wrap", "align_items": "flex-start"}
    images = widgets.HBox([widgets.VBox(left, layout=column), parts.panel, parts.apart], layout=wrap)
    lines = [widgets.HBox(row, layout=wrap | {"align_items": "center"}) for row in rows]
    detail = widgets.VBox([images, *lines], layout={"flex": "1 1 26em", "margin": "0 0 0 12px", "overflow": "visible"})
    return widgets.VBox([widgets.HBox([wall, detail], layout=wrap)])
