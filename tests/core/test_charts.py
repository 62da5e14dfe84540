"""Charts hold the numbers they were given."""

import matplotlib.pyplot as plt
import pytest

from gsoc_kd.core import charts
from gsoc_kd.core.files import InputError


def test_curves_show_the_values_given_and_leave_no_figure_open():
    stats = [
        {"kimg": 1000, "pixel": 1.0, "loss": 5.0},
        {"kimg": 2000, "pixel": 0.5, "loss": 4.0, "score": 9.0},
        {"kimg": 3000, "pixel": 0.01, "loss": -4.0, "score": None},
    ]
    axes = charts.curves(stats, ["pixel", "score"]).axes[0]
    pixel, score = [line.get_xydata().tolist() for line in axes.lines]
    assert pixel == [[1000, 1.0], [2000, 0.5], [3000, 0.01]] and score == [[2000, 9.0]]
    assert axes.get_yscale() == "log" and axes.get_xlabel() == "thousands of images seen"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["pixel", "score"]
    assert charts.curves(stats, "loss").axes[0].get_yscale() == "linear"
    assert charts.curves(stats[:2], "pixel").axes[0].get_yscale() == "linear"
    assert plt.get_fignums() == []


def test_curves_name_what_is_missing():
    told = {"loss": "no tick has 'loss'; there are: kimg", "kimg": "no tick has 'kimg'; there are: loss"}
    for stats, message in (
        ([{"kimg": 1, "loss": None}], told["loss"]),
        ([{"loss": 2.0}], told["kimg"]),
        ([], "no ticks"),
    ):
        with pytest.raises(InputError, match=message):
            charts.curves(stats, ["loss"])
