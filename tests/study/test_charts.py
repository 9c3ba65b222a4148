"""What is drawn, against the same figures by hand."""

from experiment_records import experiment, measured, trained
from fakes import structure

from service.study.charts import Point, of
from service.study.road import roads


def charts(*tested):
    return {chart.title: chart.series for chart in of(tested, roads(tested))}


def test_accuracy_is_drawn_against_latency_and_memory():
    gap = trained("gap", experiment([0.5, 1.0]), measured("gap", 31.5, 314))
    drawn = charts(gap, trained("unmeasured"))
    for title, x in {"Accuracy against latency": 31.5, "Accuracy against memory": 314}.items():
        (series,) = drawn[title]
        assert (series.name, series.points) == ("gap", (Point(x, 75, 51, 99),))


def test_learning_curves_begin_at_the_first_epoch():
    drawn = charts(trained("gap"))
    loss = {series.name: series.points for series in drawn["Learning curves: loss"]}
    assert loss == {
        "gap training": (Point(1, 1.5), Point(2, 0.5)),
        "gap validation": (Point(1, 1.75), Point(2, 1.25)),
    }
    (accuracy,) = drawn["Learning curves: accuracy on validation pictures"]
    assert accuracy.points == (Point(1, 25), Point(2, 62.5))


def test_accuracy_is_drawn_against_pictures_in_training_and_against_shift():
    drawn = charts(trained("gap"))
    (sizes,) = drawn["Accuracy and the size of the training set"]
    assert sizes.points == (Point(8, 50, 25, 75),)
    (shifts,) = drawn["Accuracy on shifted pictures"]
    assert shifts.points == (Point(4, 75), Point(16, 50))


def test_the_road_is_one_line_with_its_ends_beside_it():
    def average(side, accuracy):
        pooling = structure("average", filter=(side, side), stride=(1, 1))
        return trained(f"average{side}", experiment([accuracy]), structure=pooling)

    gap = trained("gap", experiment([0.75]))
    line, end = charts(gap, average(7, 0.5), average(1, 0.25))["The pooling road"]
    assert line.is_line
    assert line.points == (Point(1, 25, 51, 99), Point(7, 50, 51, 99))
    assert (end.name, end.is_line, end.points) == ("gap", False, (Point(7, 75, 51, 99),))


def test_what_nobody_measured_is_not_drawn():
    assert "Accuracy against latency" not in charts(trained("gap"))
