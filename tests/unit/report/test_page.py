"""The page of a run agrees with its files, needs no other file, and is well-formed."""

import json
import re
import tracemalloc

import numpy as np
import pytest

from helpers import report_runs
from helpers.report_runs import METHODS, NAMES, Page
from simclrv2_tf.console import duration
from simclrv2_tf.experiments import report_page, run_files
from simclrv2_tf.metrics.classification import gain, wilson
from simclrv2_tf.report.page import pictures

QUESTIONS = [
    "Verdict",
    "How good with few labels?",
    "How many labels do I need?",
    "Did pretraining work?",
    "What did it learn?",
    "Where does it fail?",
    "Can its confidence be trusted?",
    "The data",
    "Cost",
    "Reproduce",
    "Use it",
]
LABELS = ("How good with few labels?", "How many labels do I need?")
# Attributes that make a browser ask for something.
FETCHED = {"src", "href", "xlink:href", "srcset", "poster", "data", "action", "formaction", "cite"}


def page(*runs, output=None):
    return Page(report_page.write([str(run) for run in runs], output).read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of all stages, and its page."""
    root = report_runs.run_of_stages(tmp_path_factory.mktemp("runs") / "whole")
    return root, page(root)


def check_well_formed(found, links=True):
    assert found.unclosed == []
    assert len(found.ids) == len({*found.ids})
    referenced = {
        value[1:]
        for _, attributes in found.tags
        for name, value in attributes.items()
        if name in FETCHED and (value or "").startswith("#")
    }
    assert referenced <= {*found.ids}
    assert referenced or not links


def check_makes_no_request(found, text):
    for tag, attributes in found.tags:
        for name, value in attributes.items():
            if name in FETCHED:
                assert value.startswith(("#", "data:")), (tag, name, value[:80])
            assert "@import" not in (value or "")
            for place in re.findall(r"url\(([^)]*)\)", value or ""):
                assert place.startswith("#"), (tag, name, place)
    style = re.search(r"<style>(.*?)</style>", text, re.S)[1]
    assert "url(" not in style and "@import" not in style
    script = re.search(r"<script>(.*?)</script>", text, re.S)[1]
    assert not re.search(r"fetch|XMLHttp|import|WebSocket|http", script)
    # Names of XML dialects are no addresses that are asked for.
    addresses = re.findall(r"https?://[^\s\"<]+", text)
    assert {*addresses} <= {"http://www.w3.org/1999/xlink", "http://www.w3.org/2000/svg"}


def test_a_whole_run_answers_every_question(whole):
    root, found = whole
    assert found.headings == QUESTIONS
    check_well_formed(found)
    check_makes_no_request(found, (root / "report.html").read_text())
    for tag, attributes in found.tags:
        if tag == "img":
            assert attributes["alt"]
        if attributes.get("role") == "img":
            assert attributes["aria-label"]
    assert [a["lang"] for tag, a in found.tags if tag == "html"] == ["en"]
    assert "width=device-width" in str([a for tag, a in found.tags if tag == "meta"])


def test_accuracies_are_those_of_the_results(whole):
    root, found = whole
    rows = found.table("labels", "method")
    assert len(rows) == 8
    for fraction, text in ((0.01, "1%"), (0.1, "10%")):
        stages = [root / f"label_fraction_{fraction}" / method for method in METHODS]
        results = [json.loads((stage / "result.json").read_text()) for stage in stages]
        for result, row in zip(results, [r for r in rows if r["labels"][0] == text], strict=True):
            top1 = result["label_top_1_accuracy"]
            assert row["top-1"] == (f"{100 * top1:.1f}%", str(top1))
            interval = wilson(round(top1 * report_runs.IMAGES), report_runs.IMAGES)
            bounds = f"{100 * interval.low:.1f} to {100 * interval.high:.1f}%"
            assert row["95% interval"][0] == bounds
            assert float(row["ECE"][1]) == result["expected_calibration_error"]
            assert float(row["parameters"][1]) == result["encoder_parameters"]
            assert float(row["number of labels"][1]) == 1000 * fraction
            gain = row["gain (points)"]
            if row["method"][0] == "supervised":
                assert gain[1] == ""
            else:
                expected = top1 - results[0]["label_top_1_accuracy"]
                assert float(gain[1]) == pytest.approx(expected)


def test_what_more_labels_brought_is_that_of_the_same_images(whole):
    root, found = whole
    rows = found.table("method", "labels", "factor")
    assert len(rows) == 4
    for row, method in zip(rows, METHODS, strict=True):
        few, many = (
            run_files.read(str(root / f"label_fraction_{fraction}" / method)).stages[0]
            for fraction in (0.01, 0.1)
        )
        assert row["labels"][0] == "10 to 100" and row["factor"] == ("10", "10.0")
        gained = gain(many.predictions, few.predictions)
        assert float(row["gain (points)"][1]) == pytest.approx(gained.gain)
        ends = [f"{100 * end:+.1f}".replace("-", "−") for end in (gained.low, gained.high)]
        assert row["95% interval"][0] == " to ".join(ends)
        assert row["conclusion"][0] == (
            "more labels helped"
            if gained.low > 0
            else "no significant difference on these test images"
        )
    assert "The best method with 100 labels is small student: from 10 to 100 labels" in found.text
    assert "Nothing was measured beyond 100 labels" in found.text


def test_one_number_of_labels_shows_no_curve(tmp_path):
    found = page(report_runs.run_of_stages(tmp_path / "run", label_fraction=(0.1,)))
    assert found.headings == QUESTIONS
    assert "This section needs one method with two numbers of labels." in found.text


def test_the_verdict_is_the_best_stage(whole):
    root, found = whole
    tops = {
        path.parent: json.loads(path.read_text())["label_top_1_accuracy"]
        for path in root.rglob("result.json")
        if path.parent.name not in ("pretrain", "linear_eval_random_init")
    }
    assert found.values[0] == max(tops.values())
    assert "small student, 10% of the labels; 95% interval" in found.text
    assert f"{report_runs.IMAGES} test images" in found.text
    assert "about 30 dimensions" in found.text


def test_the_gain_is_that_of_the_same_images(whole):
    _, found = whole
    assert re.search(r"Gain over supervised training\+\d+\.\d points", found.text)
    assert re.search(r"with 1% of the labels; 95% interval [+−]\d+\.\d to \+\d+\.\d", found.text)


def test_confusions_are_those_of_the_predictions(whole):
    root, found = whole
    found_best = run_files.read(str(root)).best.predictions
    names = np.array(found_best.class_names)
    labels, predicted = names[found_best.labels], names[found_best.predicted]
    rows = found.table("class", "predicted")
    assert sum(int(row["images"][0]) for row in rows) == np.sum(labels != predicted)
    for row in rows:
        same = (labels == row["class"][0]) & (predicted == row["predicted"][0])
        assert int(row["images"][0]) == same.sum()
    recalls = {row["class"][0]: float(row["recall"][1]) for row in found.table("class", "images")}
    for name in NAMES:
        assert recalls[name] == pytest.approx(np.mean(predicted[labels == name] == name))
    surest = found_best.confidence[labels != predicted].max()
    assert f"{surest:.0%}" in found.text


def test_commands_can_be_copied(whole):
    root, found = whole
    best = f"{root}/label_fraction_0.1/small_student"
    assert f"simclrv2-tf predict {best} new_photos" in found.text
    assert f"simclrv2-tf evaluate {best} --dataset=other_photos" in found.text
    assert "python -m simclrv2_tf.run --mode=train_then_eval '--dataset=folder:a b'" in found.text
    assert f"keras.saving.load_model('{root}/pretrain/encoder.keras')" in found.text
    assert json.loads((root / "config.json").read_text())["train_mode"] in found.text


def test_seconds_are_in_the_words_of_the_console(tmp_path):
    root = report_runs.run_of_one(tmp_path / "one", train_mode="supervised")
    (root / "history.csv").write_text("epoch,loss,seconds\n1,0.5,180000\n2,0.4,7200\n")
    found = page(root)
    assert 187200.0 in found.values and f"Time{duration(187200)}" in found.text
    assert duration(187200) == "2 d 4 h"


def test_names_are_escaped(tmp_path):
    names = ("<script>alert(1)</script>", "\"quoted\" & 'so'", r"a>b</style>$\frac$")
    found = page(report_runs.run_of_stages(tmp_path / "<b>&'\"", names))
    check_well_formed(found)
    assert sum(tag == "script" for tag, _ in found.tags) == 1
    assert sum(tag == "b" for tag, _ in found.tags) == 0
    for name in names:
        assert name in found.text
        labels = [attributes.get("aria-label") or "" for _, attributes in found.tags]
        assert any(name in label for label in labels)


def test_a_run_without_labels(tmp_path):
    root = report_runs.run_of_one(tmp_path / "flat", (), train_mode="pretrain")
    found = page(root)
    check_well_formed(found)
    asked = (*LABELS, "Where does it fail?", "Can its confidence be trusted?")
    assert found.headings == [question for question in QUESTIONS if question not in asked]
    assert "The images have no labels." in found.text
    assert "There is no online classifier" in found.text
    assert found.values[0] == 0.8 and "Contrastive accuracy" in found.text
    assert "nearest neighbour of their own class" not in found.text


@pytest.mark.parametrize("mode", ["supervised", "finetune", "linear_eval"])
def test_a_run_of_one_labelled_stage(tmp_path, mode):
    root = report_runs.run_of_one(tmp_path / "one", train_mode=mode)
    found = page(root)
    check_well_formed(found)
    asked = (*LABELS, "Did pretraining work?", "What did it learn?")
    assert found.headings == [question for question in QUESTIONS if question not in asked]
    top1 = json.loads((root / "result.json").read_text())["label_top_1_accuracy"]
    assert found.values[0] == top1
    assert "Thumbnails of mistakes need representations.npz" in found.text


def test_a_student_is_compared_with_its_teacher(tmp_path):
    root = report_runs.run_of_one(tmp_path / "one", train_mode="distill", teacher="x")
    path = root / "result.json"
    result = {**json.loads(path.read_text()), "teacher_label_top_1_accuracy": 0.5}
    path.write_text(json.dumps(result))
    found = page(root)
    assert "Gain over the teacher" in found.text and "teacher: 50.0%" in found.text
    assert result["label_top_1_accuracy"] - 0.5 in found.values


@pytest.mark.parametrize("ended", range(0, 11, 2))
def test_a_run_that_was_stopped_half_way(tmp_path, ended):
    root = report_runs.run_of_stages(tmp_path / "part", ended=ended)
    found = page(root)
    check_well_formed(found)
    assert found.headings[0] == "Verdict" and found.headings[-1] == "Use it"
    assert len(found.table("stage", "encoder")) == ended + 1
    if ended == 0:
        assert "No stage has been evaluated yet" in found.text
        assert "This section needs representations.npz, which the evaluation" in found.text
        assert "No stage has been exported yet" in found.text
        assert "How good with few labels?" not in found.headings
    if ended == 4:
        assert len(found.table("labels", "method")) == 1


def test_what_is_missing_is_said(tmp_path):
    root = report_runs.run_of_stages(tmp_path / "earlier")
    for name in ("predictions.csv", "representations.npz", "run.json"):
        for path in root.rglob(name):
            path.unlink()
    found = page(root)
    check_well_formed(found)
    assert found.headings == QUESTIONS
    for said in (
        "no interval: predictions of both for the same images are missing",
        "This section needs representations.npz, which the evaluation",
        "This section needs predictions.csv, which an evaluation on labelled images writes.",
        "There is no run.json with the images",
        "There is no run.json with the command",
    ):
        assert said in found.text, said


def edit_json(path, edit):
    held = json.loads(path.read_text())
    edit(held)
    path.write_text(json.dumps(held))


def without_images(calibrations):
    for result in calibrations.values():
        result.update(top1=0.0, expected_calibration_error=0.0)
        for entry in result["bins"]:
            entry.update(count=0.0, confidence=None, accuracy=None)


def without_error(calibrations):
    for result in calibrations.values():
        result["expected_calibration_error"] = None


@pytest.mark.parametrize("edit", [without_images, without_error])
def test_a_calibration_that_cannot_be_drawn_leaves_out_a_diagram(tmp_path, caplog, edit):
    root = report_runs.run_of_one(tmp_path / "one", train_mode="finetune")
    edit_json(root / "calibration.json", edit)
    found = page(root)
    check_well_formed(found, links=False)
    assert not caplog.records
    assert "A diagram needs at least one evaluated image, and numbers that" in found.text
    (row,) = found.table("classifier", "ECE")
    assert row["mean confidence"] == ("–", "")
    # The other stages keep theirs.
    root = report_runs.run_of_stages(tmp_path / "several")
    edit_json(root / "linear_eval" / "calibration.json", edit)
    assert "omitted: linear evaluation, pretrained." in page(root).text
    assert not caplog.records


def test_a_run_without_a_readable_image(tmp_path, caplog):
    root = report_runs.run_of_one(tmp_path / "one", train_mode="finetune")
    edit_json(root / "calibration.json", without_images)

    def nothing(result):
        del result["label_top_1_low"], result["label_top_1_high"]
        result.update(images=0, label_top_1_accuracy=0.0)

    edit_json(root / "result.json", nothing)
    (root / "predictions.csv").write_text("file,class,predicted,confidence\n")
    found = page(root)
    assert not caplog.records and "failed" not in found.text
    # Intervals without the number of images.
    edit_json(root / "result.json", lambda r: r.update(label_top_1_low=0.0, label_top_1_high=0.3))
    assert "95% interval 0.0 to 30.0%" in page(root).text


def test_representations_that_are_not_finite_are_left_out(tmp_path, caplog):
    root = report_runs.run_of_stages(tmp_path / "run")
    path = root / "pretrain" / "representations.npz"
    held = dict(np.load(path))
    held["representations"][3] = np.nan
    held["representations"][7, 0] = np.inf
    np.savez(path, **held)
    found = page(root)
    check_well_formed(found)
    assert "2 images are omitted, because the representation is not finite." in found.text
    points = [attributes for tag, attributes in found.tags if "data-index" in attributes]
    assert len(points) == report_runs.IMAGES - 2
    assert len({point["data-index"] for point in points}) == len(points)
    titles = [line for line in found.text.splitlines() if line.endswith((", test/3", ", test/7"))]
    assert not titles and not caplog.records
    held["representations"][2:] = np.nan
    np.savez(path, **held)
    text = page(root).text
    assert "This section needs 3 images; representations.npz holds 2. 58 images are" in text


@pytest.mark.parametrize("damage", [b"", b"x" * 500_000, None])
def test_damaged_views_are_left_out(tmp_path, damage):
    root = report_runs.run_of_one(tmp_path / "one", train_mode="pretrain")
    whole = png(np.random.default_rng(0).integers(0, 256, (40, 150, 3)))
    (root / "views.png").write_bytes(whole)
    assert sum(tag == "img" for tag, _ in page(root).tags) == 1
    (root / "views.png").write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    found = page(root)
    assert sum(tag == "img" for tag, _ in found.tags) == 0
    assert "views.png is damaged." in found.text


def test_a_section_that_fails_leaves_the_others(whole, tmp_path, monkeypatch, caplog):
    from simclrv2_tf.report.page.sections import cost

    def fail(stage):
        raise ZeroDivisionError("division\nby zero")

    root, _ = whole
    monkeypatch.setattr(cost, "_images_a_second", fail)
    found = page(root, output=str(tmp_path / "page.html"))
    check_well_formed(found)
    assert found.headings == QUESTIONS
    said = "This section failed (ZeroDivisionError: division by zero)."
    assert found.text.count(said) == 1
    (record,) = caplog.records
    message = record.getMessage()
    assert message.startswith("The section 'Cost' of the report of ") and "\n" not in message
    monkeypatch.setattr("simclrv2_tf.report.page.comparison.compared", fail)
    roots = [root, report_runs.run_of_one(tmp_path / "one", train_mode="supervised")]
    found = page(*roots, output=str(tmp_path / "page.html"))
    assert found.headings[0] == "Side by side" and found.text.count(said) == 3


def test_this_folder_has_its_own_name(tmp_path, monkeypatch):
    root = report_runs.run_of_one(tmp_path / "photos" / "run", train_mode="supervised")
    (root / "below").mkdir()
    for place, path in ((root, "."), (root / "below", ".."), (root.parent, "run/"), (root, "./")):
        monkeypatch.chdir(place)
        text = report_page.write([path]).read_text()
        assert "<title>run · SimCLRv2 report</title>" in text and "<h1>run</h1>" in text


def test_all_right_and_all_labels_right(tmp_path):
    root = report_runs.run_of_stages(tmp_path / "run")
    lines = ["file,class,predicted,confidence"]
    lines += [f"test/{k},cat,cat,0.9" for k in range(report_runs.IMAGES)]
    for path in root.rglob("predictions.csv"):
        path.write_text("\n".join(lines) + "\n")
    assert "All 60 images with a thumbnail are classified correctly." in page(root).text
    for path in root.rglob("predictions.csv"):
        path.write_text("\n".join(lines).replace("test/", "other/") + "\n")
    assert "Thumbnails of mistakes need images that are in both files." in page(root).text


def test_a_run_without_an_epoch(tmp_path):
    root = report_runs.run_of_one(tmp_path / "one", ended=False, train_mode="pretrain")
    (root / "history.csv").unlink()
    found = page(root)
    check_well_formed(found, links=False)
    assert "This section needs history.csv, which pretraining writes after" in found.text
    assert "Time" not in found.text and not any(tag == "dl" for tag, _ in found.tags)


def test_a_collapsed_run_says_so(tmp_path):
    root = report_runs.run_of_one(tmp_path / "one", train_mode="pretrain")
    path = root / "result.json"
    result = json.loads(path.read_text())
    path.write_text(json.dumps(result | {"representation_rank": 1.1}))
    found = page(root)
    assert "Collapseyesthe representations vary along one line (effective rank 1.1)" in found.text
    path.write_text(json.dumps(result | {"representation_rank": None}))  # it was not finite
    assert "Collapse" not in page(root).text


def test_fifty_classes_take_less_than_two_megabytes(tmp_path):
    names = [f"a class with a long name {k}" for k in range(50)]
    root = report_runs.run_of_stages(tmp_path / "fifty", names)
    rng = np.random.default_rng(0)
    path = root / "pretrain" / "representations.npz"
    # Noise is what compresses worst.
    report_runs.write_samples(path, rng.integers(0, 50, 1000), names, rng)
    (root / "pretrain" / "views.png").write_bytes(png(rng.integers(0, 256, (400, 1500, 3))))
    found = page(root)
    assert (root / "report.html").stat().st_size < 2_000_000
    assert sum(tag == "circle" for tag, _ in found.tags) > 1000
    check_well_formed(found)


def test_two_thousand_classes_take_no_matrix_and_no_long_page(tmp_path):
    classes, images = 2_000, 6_000
    names = [f"class {k:04}" for k in range(classes)]
    root = report_runs.run_of_stages(tmp_path / "many", names, ended=3)
    rng = np.random.default_rng(0)
    # The first classes are the most frequent among the samples.
    sampled = np.concatenate([np.repeat(np.arange(20), 10), np.arange(20, 820)])
    report_runs.write_samples(root / "pretrain" / "representations.npz", sampled, names, rng)
    labels = np.where(np.arange(images) < 50, 7, np.arange(images) % classes)
    predicted = np.where(rng.uniform(size=images) < 0.5, labels, rng.integers(0, classes, images))
    predicted[labels == 7], predicted[labels == 8] = 9, 8
    rows = [
        {"file": f"test/{k}", "class": names[a], "predicted": names[b], "confidence": "0.5"}
        for k, (a, b) in enumerate(zip(labels, predicted, strict=True))
    ]
    best = run_files.read(str(root)).best.folder
    report_runs.write_table(root / best / "predictions.csv", rows)
    page(root)  # imports what it needs
    pictures.inline_svg.forget()
    tracemalloc.start()
    found = page(root)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * classes**2  # bytes of a matrix
    assert (root / "report.html").stat().st_size < 2_000_000
    check_well_formed(found)
    assert "drawn for up to 100 classes. These images have 2,000." in found.text
    confusions = found.table("class", "predicted")
    assert len(confusions) == 8
    assert [*confusions[0].values()] == [
        ("class 0007", ""), ("class 0009", ""), ("52", "52"), ("100.0%", "1.0"),
    ]  # fmt: skip
    recalls = [float(row["recall"][1]) for row in found.table("class", "images")]
    assert recalls == [0.0] * 10 + [1.0] * 10
    assert "the 10 classes with the lowest recall, and of the 10 with the highest" in found.text
    fills = [a["fill"] for tag, a in found.tags if tag == "g" and "data-group" in a]
    assert len(fills) == len({*fills}) == 21
    assert sum(tag == "button" for tag, _ in found.tags) == 21
    assert "The 20 most frequent classes have a color; the others are gray." in found.text
    for name in ("class 0000", "class 0019", "other classes"):
        assert f"{name}\n" in found.text


def png(pixels):
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_several_runs_are_side_by_side(tmp_path):
    roots = [
        report_runs.run_of_stages(tmp_path / "first"),
        report_runs.run_of_one(tmp_path / "second", train_mode="supervised"),
        report_runs.run_of_one(tmp_path / "elsewhere" / "first", (), train_mode="pretrain"),
    ]
    found = page(*roots, output=str(tmp_path / "all.html"))
    check_well_formed(found)
    check_makes_no_request(found, (tmp_path / "all.html").read_text())
    rows = found.table("run", "best top-1")
    # A name that two share is replaced by the path.
    assert [row["run"][0] for row in rows] == [str(roots[0]), "second", str(roots[2])]
    tops = [run_files.read(str(root)).best for root in roots]
    values = [row["best top-1"][1] for row in rows]
    assert values == [str(tops[0].top1), str(tops[1].top1), ""]
    assert len(found.table("top-1 accuracy")) == 8
    assert found.headings == ["Side by side", *(row["run"][0] for row in rows)]


def test_the_same_run_gives_the_same_page(tmp_path, monkeypatch):
    from simclrv2_tf.report import page as pages

    root = report_runs.run_of_stages(tmp_path / "run")
    runs = [run_files.read(str(root))]
    first = pages.html(runs, "now")
    pictures.inline_svg.forget()
    assert pages.html(runs, "now") == first


def test_no_runs_are_refused():
    from simclrv2_tf.report import page as pages

    with pytest.raises(ValueError, match="`runs` must hold at least one run. Received: runs="):
        pages.html([], "now")
