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
    for stats, message in (
        ([{"kimg": 1, "los": 2.0}], "no tick has 'loss'; there are: kimg, los"),
        ([{"images": 1, "loss": 2.0}], "no tick has 'kimg'"),
        ([{"kimg": 1, "loss": None}], "no tick has 'loss'"),
        ([], "no ticks at all"),
    ):
        with pytest.raises(InputError, match=message):
            charts.curves(stats, ["loss"])


def test_frontier_shows_each_generator_and_lines_for_what_costs_nothing():
    rows = [
        {"name": "floor", "cifar_fd": 0.5},
        {"name": "teacher", "parameters": 1000, "macs": 50_000, "cifar_fd": 5.0, "marker": "*"},
        {"name": "small", "parameters": 100, "macs": 7000, "cifar_fd": 8.0},
    ]
    left, right = charts.frontier(rows).axes
    for axes, costs in ((left, (1000, 100)), (right, (50_000, 7000))):
        dots = {dot.get_label(): dot.get_offsets()[0].tolist() for dot in axes.collections}
        assert dots == {"teacher": [costs[0], 5.0], "small": [costs[1], 8.0]}
        assert [list(line.get_ydata()) for line in axes.lines] == [[0.5, 0.5]] and axes.get_xscale() == "log"
    assert left.get_xlabel() == "parameters" and left.get_ylabel() == "CIFAR-FD"
    assert {text.get_text() for text in right.get_legend().get_texts()} == {"teacher", "small", "floor"}
    for lacking in (rows[:1], [], [{"parameters": 3, "macs": 4}]):
        with pytest.raises(InputError, match="name and cifar_fd in every row, and parameters and macs in at least one"):
            charts.frontier(lacking)


def test_a_ladder_has_the_best_row_at_the_top_and_a_dot_a_number():
    axes = charts.ladder({"base": [2.0, 4.0], "better": [1.0], "worse": [9.0, 5.0]}, "distance").axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["worse", "base", "better"]  # from below
    assert [line.get_xydata().tolist() for line in axes.lines[:3]] == [[[9, 0], [5, 0]], [[2, 1], [4, 1]], [[1, 2]]]
    assert list(axes.lines[3].get_xdata()) == [3, 3] and axes.get_xlabel() == "distance, lower is better"
    for rows in ({}, {"base": []}):
        with pytest.raises(InputError, match="at least one row, and at least one number"):
            charts.ladder(rows, "distance")
