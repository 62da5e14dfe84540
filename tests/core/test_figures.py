"""Pixels stand where they should; files are small, whole and readable."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from gsoc_kd.core import figures
from gsoc_kd.core.files import InputError


def noise(count, height=4, width=5, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (count, height, width, 3)).astype(np.uint8)


def test_grid_places_every_pixel():
    images = noise(5)
    whole = np.asarray(figures.grid(images, columns=3, scale=2, pad=1))
    assert whole.shape == (1 + 2 * (8 + 1), 1 + 3 * (10 + 1), 3)
    rest = np.ones(whole.shape[:2], bool)
    for i, image in enumerate(images):
        top, left = 1 + i // 3 * 9, 1 + i % 3 * 11
        cell = whole[top : top + 8, left : left + 10]
        for row in range(2):
            for column in range(2):
                assert np.array_equal(cell[row::2, column::2], image)
        rest[top : top + 8, left : left + 10] = False
    assert (whole[rest] == 255).all() and rest.sum() == whole[..., 0].size - 5 * 80
    assert np.array_equal(figures.grid(torch.from_numpy(images[:1]), columns=1, scale=1, pad=0), images[0])


def test_grid_names_what_is_wrong():
    for images, named in (
        (noise(2).astype(np.float32), r"float32 \(2, 4, 5, 3\)"),
        (noise(2)[0], r"uint8 \(4, 5, 3\)"),
        (noise(2).transpose(0, 3, 1, 2), r"uint8 \(2, 3, 4, 5\)"),
        (noise(0), r"uint8 \(0, 4, 5, 3\)"),
    ):
        with pytest.raises(InputError, match=named):
            figures.grid(images, columns=2)
    for name, value in (("columns", 0), ("scale", 1.5), ("pad", -1)):
        with pytest.raises(InputError, match=f"{name} must be a whole number.*{value}"):
            figures.grid(noise(2), **{"columns": 2, name: value})


def painted(z, y):
    """Red says the class, green the latent."""
    images = np.zeros((len(y), 4, 4, 3), np.uint8)
    images[..., 0] = (np.asarray(y) * 20)[:, None, None]
    images[..., 1] = (np.asarray(z[:, 0]) * 40 + 128).clip(0, 255).astype(np.uint8)[:, None, None]
    return images


def test_class_grid_has_a_row_a_class_and_a_column_a_latent():
    image = np.asarray(figures.class_grid(painted, 3, 4, columns=5, seed=7, scale=2))
    assert image.shape == (1 + 4 * 9, 1 + 5 * 9, 3)
    cells = image[1::9, 1::9]  # (4, 5, 3)
    assert (cells[..., 0] == np.arange(4)[:, None] * 20).all()
    assert (cells[..., 1] == cells[0, :, 1]).all() and len(set(cells[0, :, 1])) == 5
    again, other = (np.asarray(figures.class_grid(painted, 3, 4, columns=5, seed=seed)) for seed in (7, 8))
    assert np.array_equal(image, again) and not np.array_equal(image, other)
    with pytest.raises(InputError, match="gave 19 images for 20 labels"):
        figures.class_grid(lambda z, y: painted(z, y)[:-1], 3, 4, columns=5)


def test_class_grid_writes_names_at_the_left():
    plain, named = (figures.class_grid(painted, 3, names, 5, scale=8) for names in (2, ["cat", "automobile"]))
    margin = named.width - plain.width
    assert margin > 20 and named.height == plain.height and np.array_equal(np.asarray(named)[:, margin:], plain)
    dark = np.asarray(named)[:, :margin, 0] < 128
    assert dark[33:].sum() > dark[:33].sum() > 10  # the longer name, in the lower row, has more ink


def test_side_by_side_alternates_rows_of_teacher_and_student():
    a, b = noise(5, seed=1), noise(5, seed=2)
    image = np.asarray(figures.side_by_side(a, b, columns=3, scale=1, names=None))
    assert image.shape == (1 + 4 * 5, 1 + 3 * 6, 3)
    for i in range(5):
        top, left = 1 + i // 3 * 2 * 5, 1 + i % 3 * 6
        assert np.array_equal(image[top : top + 4, left : left + 5], a[i])
        assert np.array_equal(image[top + 5 : top + 9, left : left + 5], b[i])
    assert (image[11:, 13:] == 255).all()  # the place of the missing sixth pair
    assert np.array_equal(np.asarray(figures.side_by_side(a, b, columns=3, scale=1))[:, -19:], image)  # with names
    with pytest.raises(InputError, match=r"\(5, 4, 5, 3\) and \(4, 4, 5, 3\)"):
        figures.side_by_side(a, b[:4], columns=3)


def test_animation_keeps_order_size_and_times(tmp_path):
    frames = [Image.new("RGB", (40, 24), (0, 40 * i, 255 - 40 * i)) for i in range(6)]
    frames[2].save(tmp_path / "2.png")
    frames[2] = tmp_path / "2.png"  # images and paths mix
    path = figures.animation(frames, tmp_path / "animation.gif")
    with Image.open(path) as animation:
        assert (animation.format, animation.n_frames, animation.size, animation.info["loop"]) == ("GIF", 6, (40, 24), 0)
        for i in range(6):
            animation.seek(i)
            assert animation.info["duration"] == (2000 if i == 5 else 150)
            assert np.abs(np.asarray(animation.convert("RGB"), int) - (0, 40 * i, 255 - 40 * i)).max() <= 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2.png", "animation.gif"]
    frames = [figures.grid(noise(16, 8, 8, seed=i // 4), columns=4, scale=4) for i in range(12)]
    path = figures.animation(frames, tmp_path / "animation.gif")
    assert path.stat().st_size < 0.5 * sum(len(figures.png_bytes(frame)) for frame in frames)


@pytest.mark.parametrize(
    "frames, message",
    [
        ([], "at least one; got 0"),
        ([Image.new("RGB", (4, 4)), Image.new("RGB", (4, 5))], r"got 2 of \[\(4, 4\), \(4, 5\)\]"),
        (["nowhere/0001.png"], "nowhere/0001.png cannot be read"),
        ([7], "frame 7 cannot be read"),
    ],
)
def test_animation_refuses_and_keeps_the_old_one(tmp_path, frames, message):
    (tmp_path / "animation.gif").write_bytes(b"old")
    with pytest.raises(InputError, match=message):
        figures.animation(frames, tmp_path / "animation.gif")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("animation.gif", b"old")]


def test_png_bytes_give_the_pixels_back(tmp_path):
    image = noise(1)[0]
    for given in (image, Image.fromarray(image)):
        assert np.array_equal(Image.open(io.BytesIO(figures.png_bytes(given))), image)
        assert np.array_equal(Image.open(figures.save_png(given, tmp_path / "new" / "image.png")), image)
    assert figures.png_bytes(image) == figures.png_bytes(Image.fromarray(image))
    with pytest.raises(InputError, match="float64"):
        figures.png_bytes(image / 255)


def test_save_png_reduces_colours_only_as_far_as_needed(tmp_path):
    image = noise(1, 64, 64)[0]  # 12 kB of noise
    path = figures.save_png(Image.fromarray(image), tmp_path / "image.png", max_kb=6)
    with Image.open(path) as saved:
        assert saved.mode == "P" and saved.size == (64, 64)
        assert 64 < len(saved.getcolors()) <= 256
        error = np.abs(np.asarray(saved.convert("RGB"), int) - image).mean()
    assert path.stat().st_size <= 6000 and error < 25
    with pytest.raises(InputError, match="more than 1 kB"):
        figures.save_png(image, tmp_path / "other.png", max_kb=1)
    assert [p.name for p in tmp_path.iterdir()] == ["image.png"]


def test_beside_keeps_every_pixel_and_writes_above():
    a, b = Image.fromarray(noise(1, 40, 60)[0]), Image.fromarray(noise(1, 25, 80, seed=1)[0])
    image = np.asarray(figures.beside([a, b], ["one", ""], gap=7))
    head = len(image) - 40
    assert head > 10 and image.shape == (head + 40, 60 + 7 + 80, 3)
    assert np.array_equal(image[head:, :60], a) and np.array_equal(image[head : head + 25, 67:], b)
    assert (image[head:, 60:67] == 255).all() and (image[head + 25 :, 60:] == 255).all()
    assert (image[:head, :60] < 128).any() and (image[:head, 60:] == 255).all()
    assert figures.beside([a, b], ["", ""], gap=0).size == (140, 40)
    image = np.asarray(figures.beside([a, a], ["a text that is wider than a", ""], gap=0))
    wide = image.shape[1] - 60
    left = (wide - 60) // 2
    assert wide > 100 and np.array_equal(image[-40:, left : left + 60], a) and np.array_equal(image[-40:, wide:], a)
    for images, captions in (([], []), ([a], ["a", "b"])):
        with pytest.raises(InputError, match=f"got {len(images)} images and {len(captions)} captions"):
            figures.beside(images, captions)


def test_mosaic_puts_alike_images_together_and_shows_each_once():
    pytest.importorskip("sklearn", reason="t-SNE is left out")
    rng = np.random.default_rng(0)
    group = np.tile([0, 1, 2, 3], 25)  # four groups far apart, mixed in order
    features = rng.normal(size=(100, 8)) + 50 * np.eye(8)[group]
    images = np.broadcast_to(np.arange(100, dtype=np.uint8)[:, None, None, None], (100, 2, 2, 3))
    image = figures.mosaic(images, features, seed=3)
    cells = np.asarray(image)[::2, ::2, 0]
    assert image.size == (20, 20) and sorted(cells.ravel()) == list(range(100))
    groups = group[cells]
    alike = np.concatenate([(groups[1:] == groups[:-1]).ravel(), (groups[:, 1:] == groups[:, :-1]).ravel()])
    assert alike.mean() > 0.7  # in random order a quarter
    assert np.array_equal(image, figures.mosaic(images, features, seed=3))


def test_mosaic_leaves_cells_white_and_refuses_what_does_not_fit():
    pytest.importorskip("sklearn", reason="t-SNE is left out")
    images = np.zeros((7, 2, 2, 3), np.uint8)
    image = np.asarray(figures.mosaic(images, np.random.default_rng(0).normal(size=(7, 3))))
    assert image.shape == (6, 6, 3) and (image[::2, ::2, 0] == 255).sum() == 2
    for count, features in (
        (7, np.zeros((6, 3))),
        (7, np.full((7, 3), np.nan)),
        (7, np.zeros(7)),
        (7, np.zeros((7, 0))),
        (7, np.array([[1.5e308], [-1.5e308]] * 3 + [[0]])),
        (3, np.zeros((3, 2))),
    ):
        with pytest.raises(InputError, match=f"at least 4 images and finite .* got {count} images and features"):
            figures.mosaic(images[:count], features)


@pytest.mark.parametrize("features", [np.ones((7, 3)), np.arange(7.0)[:, None], np.full((7, 2), 1e-300)])
def test_mosaic_without_two_main_directions_shows_each_image_once(features):
    pytest.importorskip("sklearn", reason="t-SNE is left out")
    images = np.broadcast_to(np.arange(7, dtype=np.uint8)[:, None, None, None], (7, 2, 2, 3))
    for some in (features, features + 1e-290 * np.eye(7)[:, : features.shape[1]]):
        cells = np.asarray(figures.mosaic(images, some))[::2, ::2, 0]
        assert sorted(cells.ravel()) == [*range(7), 255, 255]


def test_an_image_is_written_to_a_file_and_not_over_a_folder(tmp_path):
    (tmp_path / "here").mkdir()
    with pytest.raises(InputError, match="here is a folder; give the name of a file"):
        figures.save_png(noise(1)[0], tmp_path / "here")
    assert [p.name for p in tmp_path.rglob("*")] == ["here"]


def test_curves_show_the_values_given_and_leave_no_figure_open():
    stats = [
        {"kimg": 1000, "pixel": 1.0, "loss": 5.0},
        {"kimg": 2000, "pixel": 0.5, "loss": 4.0, "score": 9.0},
        {"kimg": 3000, "pixel": 0.01, "loss": -4.0, "score": None},
    ]
    axes = figures.curves(stats, ["pixel", "score"]).axes[0]
    pixel, score = [line.get_xydata().tolist() for line in axes.lines]
    assert pixel == [[1000, 1.0], [2000, 0.5], [3000, 0.01]] and score == [[2000, 9.0]]
    assert axes.get_yscale() == "log" and axes.get_xlabel() == "thousands of images seen"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["pixel", "score"]
    assert figures.curves(stats, "loss").axes[0].get_yscale() == "linear"
    assert figures.curves(stats[:2], "pixel").axes[0].get_yscale() == "linear"
    assert plt.get_fignums() == []


def test_curves_name_what_is_missing():
    told = {"loss": "no tick has 'loss'; there are: kimg", "kimg": "no tick has 'kimg'; there are: loss"}
    for stats, message in (
        ([{"kimg": 1, "loss": None}], told["loss"]),
        ([{"loss": 2.0}], told["kimg"]),
        ([], "no ticks"),
    ):
        with pytest.raises(InputError, match=message):
            figures.curves(stats, ["loss"])


def test_titles_stand_above_the_columns_and_leave_the_images_as_they_are():
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    plain = figures.side_by_side(images, images, columns=2)
    titled = figures.side_by_side(images, images, columns=2, titles=("left", "right"))
    assert titled.size == (plain.width, plain.height + 18)
    assert titled.crop((0, 18, *titled.size)) == plain
    assert np.asarray(titled)[:18].min() < 128  # something is written there
