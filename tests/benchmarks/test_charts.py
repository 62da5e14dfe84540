"""The studies' charts hold the numbers they were given."""

from charts import frontier, ladder


def test_frontier_shows_each_generator_and_lines_for_what_costs_nothing():
    rows = [
        {"name": "floor", "cifar_fd": 0.5},
        {"name": "teacher", "parameters": 1000, "macs": 50_000, "cifar_fd": 5.0, "marker": "*"},
        {"name": "small", "parameters": 100, "macs": 7000, "cifar_fd": 8.0},
    ]
    left, right = frontier(rows).axes
    for axes, costs in ((left, (1000, 100)), (right, (50_000, 7000))):
        dots = {dot.get_label(): dot.get_offsets()[0].tolist() for dot in axes.collections}
        assert dots == {"teacher": [costs[0], 5.0], "small": [costs[1], 8.0]}
        assert [list(line.get_ydata()) for line in axes.lines] == [[0.5, 0.5]] and axes.get_xscale() == "log"
    assert left.get_xlabel() == "parameters" and left.get_ylabel() == "CIFAR-FD"
    assert {text.get_text() for text in right.get_legend().get_texts()} == {"teacher", "small", "floor"}


def test_a_ladder_has_the_best_row_at_the_top_and_a_dot_a_number():
    axes = ladder({"base": [2.0, 4.0], "better": [1.0], "worse": [9.0, 5.0]}, "distance").axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["worse", "base", "better"]  # from below
    assert [line.get_xydata().tolist() for line in axes.lines[:3]] == [[[9, 0], [5, 0]], [[2, 1], [4, 1]], [[1, 2]]]
    assert list(axes.lines[3].get_xdata()) == [3, 3] and axes.get_xlabel() == "distance, lower is better"
