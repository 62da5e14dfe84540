"""What the package carries: rounded weights, scored as they are loaded; pages that state their scores."""

import importlib
from datetime import date

import numpy as np
import pytest
import torch
from gsoc_kd.pairs.make import draw_latents
from gsoc_kd.teachers.black_box import black_box
from gsoc_kd.teachers.load import GENERATORS
from PIL import Image
from safetensors.torch import load_file

from gsoc_kd.core.figures import side_by_side
from gsoc_kd.core.files import InputError, read_json
from gsoc_kd.core.weights import load_network, network_hash, save_network
from gsoc_kd.evaluation.table import table
from gsoc_kd.networks.conv import ConvGenerator

module = importlib.import_module("gsoc_kd.embed")
PAGE = "# Page\n\nbefore\n<!-- results: made by a command -->\nold table\n<!-- end of results -->\nafter\n"


def tiny(seed):
    torch.manual_seed(seed)
    return ConvGenerator(z_dim=6, num_classes=4, widths=(8, 8, 4, 4), embed_dim=3).eval()


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Assets in a folder of the test's own; evaluation notes what it was given."""
    given = []

    def evaluate(generator):
        given.append(generator)
        return {"cifar_fd": 12.25, "class_agreement": 0.5, "images": 10_000}

    monkeypatch.setattr(module, "EMBEDDED", tmp_path / "assets")
    monkeypatch.setattr(module, "evaluate", evaluate)
    return given


@pytest.fixture
def run(tmp_path):
    save_network(tiny(0), tmp_path / "run" / "student", {"command": "gsoc-kd distill", "scores": None})
    return tmp_path / "run"


# ---------------------------------------------------------------- networks


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_a_run_is_embedded_rounded_and_scored_as_it_will_be_loaded(asked, run, tmp_path, name):
    scores = module.embed(run, name)
    folder = tmp_path / "assets" / name
    stored = load_file(folder / "model.safetensors")
    assert {t.dtype for t in stored.values() if t.is_floating_point()} == {torch.float16}
    loaded, original = load_network(folder, GENERATORS), tiny(0)
    for key, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, original.state_dict()[key].half().to(tensor.dtype))
    assert len(asked) == 1 and network_hash(asked[0]) == network_hash(loaded) != network_hash(original)
    told = read_json(folder / "provenance.json")
    assert told == {"command": "gsoc-kd distill", "scores": scores, "hash": network_hash(loaded)}
    assert scores["cifar_fd"] == 12.25
    assert [p.name for p in (tmp_path / "assets").iterdir()] == [name]


def test_a_network_s_own_folder_is_embedded_too(asked, run, tmp_path):
    module.embed(run / "student", "teacher")
    assert read_json(tmp_path / "assets" / "teacher" / "provenance.json")["command"] == "gsoc-kd distill"
    assert network_hash(asked[0]) == network_hash(load_network(tmp_path / "assets" / "teacher", GENERATORS))


def test_a_failed_evaluation_leaves_what_was_embedded(asked, run, tmp_path, monkeypatch):
    module.embed(run)
    before = network_hash(load_network(tmp_path / "assets" / "student", GENERATORS))

    def fails(generator):
        raise KeyboardInterrupt

    save_network(tiny(1), run / "student")
    monkeypatch.setattr(module, "evaluate", fails)
    with pytest.raises(KeyboardInterrupt):
        module.embed(run)
    assert network_hash(load_network(tmp_path / "assets" / "student", GENERATORS)) == before


def test_another_name_or_a_folder_without_a_generator_is_refused(asked, run, tmp_path):
    with pytest.raises(InputError, match="'teacher' or 'student', got 'judge'"):
        module.embed(run, "judge")
    with pytest.raises(InputError, match="nowhere"):
        module.embed(tmp_path / "nowhere")
    assert not asked and not (tmp_path / "assets").exists()


# ---------------------------------------------------------------- pages


@pytest.fixture
def rows(monkeypatch):
    """The rows of the table, from tiny networks and made-up measurements."""
    rows = [{"name": "real test images (floor)", "cifar_fd": 0.1, "images": 10_000}]
    monkeypatch.setattr(module, "floor_row", lambda: rows[0])
    teacher, student = black_box(tiny(0)), tiny(1)
    monkeypatch.setattr(module, "load_teacher", lambda: teacher)
    monkeypatch.setattr(module, "load_student", lambda: student)

    def row(name, generator, scores):
        rows.append({"name": name, "parameters": 2000 if generator is teacher else 300, **scores})
        return rows[-1]

    monkeypatch.setattr(module, "row", row)
    return rows


def test_results_replace_the_block_of_each_page_and_nothing_else(asked, rows, tmp_path):
    teacher, student, picture = module.load_teacher(), module.load_student(), tmp_path / "docs" / "both.png"
    pages = tmp_path / "README.md", tmp_path / "Results.md"
    for page in pages:
        page.write_text(page.name + PAGE, encoding="utf-8")
    text = module.results(tuple(map(str, pages)), str(picture))
    assert asked == [teacher, student]
    assert [row["name"] for row in rows[1:]] == ["embedded teacher", "embedded student"]
    assert text.startswith(table(rows)) and "`gsoc-kd results`" in text and "PyTorch" in text
    assert str(date.today()) in text and "| 2 k |" in text and "50.0%" in text
    for page in pages:
        assert page.read_text(encoding="utf-8") == page.name + PAGE.replace("old table\n", text)
    z, y = torch.from_numpy(draw_latents(7, 0, 20, 6)), torch.arange(20) % 4
    expected = side_by_side(teacher(z, y), black_box(student)(z, y), columns=10, scale=3)
    assert np.array_equal(np.asarray(Image.open(picture).convert("RGB")), np.asarray(expected))
    module.results([pages[0]], picture)  # again: in the same place
    assert "old table" not in pages[0].read_text()
    assert pages[0].read_text().count("<!-- results: made by a command -->") == 1


@pytest.mark.parametrize("text", [None, "# nothing\n", PAGE.replace("<!-- end of results -->", "")])
def test_a_page_without_the_marks_is_refused_before_anything_is_measured(asked, rows, tmp_path, text):
    good, bad = tmp_path / "good.md", tmp_path / "bad.md"
    good.write_text(PAGE)
    if text is not None:
        bad.write_text(text)
    with pytest.raises(InputError, match="bad.md has no block between"):
        module.results((str(good), str(bad)), str(tmp_path / "both.png"))
    assert not asked and not (tmp_path / "both.png").exists() and good.read_text() == PAGE
