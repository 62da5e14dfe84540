"""docs/student-architecture.svg: the bundled student's layers with their channels, drawn from its config.json."""

from pathlib import Path

import tyro

from gsoc_kd.core.files import ASSETS, read_json, replacing_file

STYLE = """
    .box { rx: 5px; fill: #fdf0e4; stroke: #c2711c; stroke-width: 1.5 }
    .name { font-size: 14px; font-weight: 600; fill: #1f2328 }
    .small { font-size: 12px; fill: #57606a }
    .line { stroke: #57606a; stroke-width: 1.6; fill: none }
    .head { fill: #57606a }
    @media (prefers-color-scheme: dark) {
      .box { fill: #3a2613; stroke: #e6a15c }
      .name { fill: #e6edf3 } .small { fill: #9da7b3 } .line { stroke: #9da7b3 } .head { fill: #9da7b3 }
    }"""


def main(config: Path = ASSETS / "student" / "config.json", out: Path = Path("docs/student-architecture.svg")):
    """Writes the diagram of a ConvGenerator's config."""
    with replacing_file(out) as temporary:
        temporary.write_text(diagram(read_json(config)), encoding="utf-8")


def diagram(config):
    """An SVG of the layers of a ConvGenerator: boxes whose heights follow the image's side, widths the channels."""
    widths, sides = config["widths"], [4 << i for i in range(len(config["widths"]))]
    condition = f"{config['z_dim']} + {config['embed_dim']}"
    rank = f"by {config['rank']} to " if config["rank"] else ""
    stages = [(30, 44, "z, class", condition, "noise, embedding")]
    stages += [(58, 44, "linear", f"{rank}{widths[0]} x 4 x 4", "norm, ReLU")]
    for side, width in zip(sides[1:], widths[1:]):
        stages.append((44 + 2 * side, 34 + width / 2, "up block", f"{width} x {side} x {side}", "3x3, norm, ReLU"))
    stages.append((44 + 2 * sides[-1], 40, "3x3, tanh", f"3 x {sides[-1]} x {sides[-1]}", "image"))
    gap, middle, x, parts, centres = 84, 76, 60, [], []
    for i, (height, width, name, size, note) in enumerate(stages):
        if i:
            parts.append(f'<path class="line" d="M{x} {middle}h{gap - 6}" marker-end="url(#arrow)"/>')
            x += gap
        centres.append(x + width / 2)
        parts.append(f'<rect class="box" x="{x:g}" y="{middle - height / 2:g}" width="{width:g}" height="{height}"/>')
        texts = (("name", 158, name), ("small", 176, size), ("small", 192, note))
        parts += [f'<text class="{kind}" x="{centres[-1]:g}" y="{y}">{text}</text>' for kind, y, text in texts]
        x += width
    x += 60
    low, last = 216, len(centres) - 1
    parts.append(f'<path class="line" d="M{centres[0]:g} 198V{low}H{centres[last - 1]:g}" stroke-dasharray="4 4"/>')
    up = 'stroke-dasharray="4 4" marker-end="url(#arrow)"'
    parts += [f'<path class="line" d="M{c:g} {low}V198" {up}/>' for c in centres[1:last]]
    told = "noise and class also set gain and bias of every norm (conditional batch norm)"
    parts.append(f'<text class="small" x="{x / 2:g}" y="{low + 18}">{told}</text>')
    described = ", ".join(f"{name} {size}" for _, _, name, size, _ in stages)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {x:g} 244" role="img" aria-label="{described}" \
font-family="system-ui, 'Segoe UI', Helvetica, Arial, sans-serif">
  <style>{STYLE}
  </style>
  <defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">\
<path class="head" d="M0 0 10 5 0 10z"/></marker></defs>
  <g text-anchor="middle">
    {(chr(10) + "    ").join(parts)}
  </g>
</svg>
"""


if __name__ == "__main__":
    tyro.cli(main)
