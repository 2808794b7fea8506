"""Learning curves are drawn from the history, in percent, a quantity a panel."""

import csv

import pytest
from etils import epath

from simclrv2_tf import report
from simclrv2_tf.experiments import learning_curves


def history(path, epochs, **columns):
    """Writes a history; a value of None is an empty cell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["epoch", *columns, "seconds"])
        for place in range(epochs):
            cells = ["" if column[place] is None else column[place] for column in columns.values()]
            writer.writerow([place + 1, *cells, 0.5])
    return epath.Path(path)


def drawn(panels):
    """Of each panel its title, axes, and the points of each line that matplotlib holds."""
    figure = report.learning_curves_figure(panels)
    return [
        (
            axis.get_title(),
            axis.get_xlabel(),
            axis.get_ylabel(),
            {line.get_label(): line.get_xydata().tolist() for line in axis.lines},
        )
        for axis in figure.axes[: len(panels)]
    ]


@pytest.fixture
def pretraining(tmp_path):
    return history(
        tmp_path / "pretrain" / "history.csv",
        3,
        contrast_loss=[9.5, 8.0, 7.25],
        probe_accuracy=[0.25, 0.5, 0.625],
        knn_top_1_accuracy=[None, 0.5, 0.75],
    )


def test_a_run_of_several_stages(tmp_path, pretraining):
    """Validated every second epoch; distillation has an accuracy only on held-out images."""
    supervised = history(
        tmp_path / "supervised" / "history.csv",
        4,
        top_1_accuracy=[0.25, 0.5, 0.75, 1],
        val_top_1_accuracy=[None, 0.125, None, 0.375],
    )
    student = history(
        tmp_path / "student" / "history.csv",
        2,
        teacher_agreement=[0.5, 0.875],
        val_top_1_accuracy=[None, 0.625],
    )
    few = {"1%": {"supervised": supervised, "small_student": student}}
    assert drawn(learning_curves.of_stages(pretraining, few)) == [
        (
            "pretraining",
            "epoch",
            "contrastive loss",
            {"pretraining": [[1, 9.5], [2, 8], [3, 7.25]]},
        ),
        (
            "pretraining",
            "epoch",
            "top-1 accuracy (%)",
            {
                "online classifier": [[1, 25], [2, 50], [3, 62.5]],
                "nearest neighbours, held-out": [[2, 50], [3, 75]],
            },
        ),
        (
            "1% of the labels",
            "training done (%)",
            "top-1 accuracy (%)",
            {
                "supervised": [[25, 25], [50, 50], [75, 75], [100, 100]],
                "supervised, held-out": [[50, 12.5], [100, 37.5]],
                "small student, held-out": [[100, 62.5]],
            },
        ),
        (
            "1% of the labels",
            "training done (%)",
            "agreement with the teacher (%)",
            {"small student": [[50, 50], [100, 87.5]]},
        ),
    ]


def test_a_run_without_validation_and_without_an_online_classifier(tmp_path):
    pretraining = history(tmp_path / "history.csv", 2, contrast_loss=[3, 2])
    tuned = history(tmp_path / "tuned.csv", 1, top_1_accuracy=[0.5])
    found = drawn(learning_curves.of_stages(pretraining, {"10%": {"fine_tuned": tuned}}))
    assert [(title, y_label) for title, _, y_label, _ in found] == [
        ("pretraining", "contrastive loss"),
        ("10% of the labels", "training accuracy (%)"),
    ]
    assert found[1][3] == {"fine-tuned": [[100, 50]]}


def test_a_stage_alone(tmp_path, pretraining):
    assert [panel.y_label for panel in learning_curves.of_stage(pretraining)] == [
        "contrastive loss",
        "top-1 accuracy (%)",
    ]
    path = history(
        tmp_path / "history.csv",
        2,
        loss=[2.5, 1.5],
        top_1_accuracy=[0.5, 0.75],
        val_top_1_accuracy=[0.25, 0.5],
        val_loss=[3, 2],
    )
    assert drawn(learning_curves.of_stage(path)) == [
        (
            "",
            "epoch",
            "loss",
            {"network": [[1, 2.5], [2, 1.5]], "network, held-out": [[1, 3], [2, 2]]},
        ),
        (
            "",
            "epoch",
            "top-1 accuracy (%)",
            {"network": [[1, 50], [2, 75]], "network, held-out": [[1, 25], [2, 50]]},
        ),
    ]


def test_the_loss_of_a_student_is_not_drawn_beside_that_of_labels(tmp_path):
    path = history(
        tmp_path / "history.csv",
        2,
        loss=[2, 1],
        teacher_agreement=[0.5, 0.75],
        val_top_1_accuracy=[None, 0.25],
        val_loss=[None, 1.5],
    )
    assert [(label, lines) for _, _, label, lines in drawn(learning_curves.of_stage(path))] == [
        ("loss", {"network": [[1, 2], [2, 1]]}),
        ("top-1 accuracy (%)", {"network, held-out": [[2, 25]]}),
        ("agreement with the teacher (%)", {"network": [[1, 50], [2, 75]]}),
    ]


def test_a_history_without_an_epoch_has_no_panels(tmp_path):
    assert learning_curves.of_stage(history(tmp_path / "history.csv", 0, loss=[])) == []
