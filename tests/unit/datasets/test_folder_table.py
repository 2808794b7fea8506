"""Tables of labels for folders of images."""

import pytest

from helpers.listing import Paths, is_image
from simclrv2_tf.datasets import DatasetError, folder_layout, folder_table

IMAGES = [f"images/{n}.jpg" for n in range(6)]
ROWS = "".join(f"{n}.jpg,{'ab'[n % 2]}\n" for n in range(6))


def read(content, *paths, table="labels.csv"):
    content = content if isinstance(content, bytes) else content.encode()
    listing = Paths(*(paths or IMAGES), table)
    assert folder_layout.table_of(listing) == table
    return folder_table.read(listing, table, content, is_image, ".jpg")


@pytest.mark.parametrize(
    "content",
    [
        f"file,label\n{ROWS}",
        f"\ufeffFile_Name , LABEL\r\n{ROWS}".replace("\n", "\r\n").replace("\r\r", "\r"),
        f"filename,class\n\n{ROWS}\n,\n",
        f"image,category\n{ROWS}",
        f'"path","target"\n{ROWS.replace("3.jpg", chr(34) + "3.jpg" + chr(34))}',
        "label,file\n" + "".join(f"{'ab'[n % 2]},images/{n}.jpg\n" for n in range(6)),
        "file,label\n" + "".join(f"./{n}.jpg, {'ab'[n % 2]}\n" for n in range(6)),
        f"file,label\n{ROWS}{ROWS}",
        f"file;label\n{ROWS}".replace(",", ";"),
        f"file\tlabel\n{ROWS}".replace(",", "\t"),
        f"image,label\n{ROWS}".replace(".jpg", ""),
        "file,label\n" + "".join(f"images\\{n}.jpg,{'ab'[n % 2]}\n" for n in range(6)),
    ],
)
def test_headers_and_paths(content):
    layout = read(content)
    assert layout.splits == {"train": {f"images/{n}.jpg": "ab"[n % 2] for n in range(6)}}
    assert layout.class_names == ("a", "b") and layout.table == "labels.csv"
    assert not layout.notes and not layout.files


def test_tabs_and_other_names():
    text = f"file,label\n{ROWS}".replace(",", "\t")
    assert read(text, table="Metadata.TSV").class_names == ("a", "b")
    quoted = 'file,label\n"0.jpg","big, red"\n1.jpg,"say ""no"""\n'
    assert read(quoted).class_names == ("big, red", 'say "no"')


def test_a_file_without_its_ending_is_read_where_one_image_has_that_name():
    layout = read(
        "file,label\n0,a\n1,b\n2.x,a\n", "0.jpg", "1.jpg", "1.old.jpg", "2.x.jpg", "0.txt"
    )
    assert layout.splits["train"] == {"0.jpg": "a", "1.jpg": "b", "2.x.jpg": "a"}
    both = folder_table.read(
        Paths("0.jpg", "0.png", "1.jpg"), "labels.csv", b"file,label\n0,a\n1,b\n",
        lambda path: path.endswith((".jpg", ".png")), ".jpg",
    )  # fmt: skip
    assert both.files["0"] == "in labels.csv, but not found: skipped"


def test_accents_in_another_unicode_form_are_the_same_file():
    layout = read("file,label\ncaf\u00e9,a\nx.jpg,b\n", "cafe\u0301.jpg", "x.jpg")
    assert layout.splits == {"train": {"cafe\u0301.jpg": "a", "x.jpg": "b"}}
    both = read(
        "file,label\ncaf\u00e9.jpg,a\ncafe\u0301.jpg,b\n", "cafe\u0301.jpg", "caf\u00e9.jpg"
    )
    assert both.splits == {"train": {"cafe\u0301.jpg": "b", "caf\u00e9.jpg": "a"}}


def test_classes_that_differ_in_case_are_noted():
    layout = read("file,label\n0.jpg,Cat\n1.jpg,cat\n2.jpg,dog\n")
    assert layout.notes[0] == "the classes Cat and cat differ only in case or spaces"


def test_a_column_tells_splits():
    rows = ["0.jpg,a,Train", "1.jpg,b,training", "2.jpg,a,VAL", "3.jpg,b,test", "4.jpg,a,"]
    layout = read("file,label,split\n" + "\n".join([*rows, "5.jpg,a,unlabeled"]))
    assert layout.splits == {
        "train": {"images/0.jpg": "a", "images/1.jpg": "b", "images/4.jpg": "a"},
        "validation": {"images/2.jpg": "a"},
        "test": {"images/3.jpg": "b"},
        "unlabelled": {"images/5.jpg": None},
    }


def test_folders_tell_splits_where_the_table_does_not():
    paths = ["train/0.jpg", "train/1.jpg", "Test/0.jpg", "Test/1.jpg", "other.jpg"]
    layout = read("file,label\ntrain/0.jpg,a\ntrain/1.jpg,\nTest/0.jpg,a\nother.jpg,b\n", *paths)
    assert layout.splits == {
        "train": {"train/0.jpg": "a", "other.jpg": "b"},
        "unlabelled": {"train/1.jpg": None},
        "test": {"Test/0.jpg": "a", "Test/1.jpg": None},
    }


def test_missing_and_unlisted_files_are_counted_and_named():
    rows = "0.jpg,a\n1.jpg,b\n7.jpg,a\n8.jpg,b\n9,a\nnotes.txt,a\n"
    layout = read(f"file,label\n{rows}", *IMAGES, "notes.txt")
    assert layout.splits == {
        "train": {"images/0.jpg": "a", "images/1.jpg": "b"},
        "unlabelled": dict.fromkeys(IMAGES[2:]),
    }
    assert layout.notes == (
        "4 files that labels.csv lists are missing, or are not images (7.jpg, 8.jpg, 9, ...)",
        "4 images are not in labels.csv: used without a label (images/2.jpg, images/3.jpg, "
        "images/4.jpg, ...)",
    )
    assert layout.files == {
        "7.jpg": "in labels.csv, but not found: skipped",
        "8.jpg": "in labels.csv, but not found: skipped",
        "9": "in labels.csv, but not found: skipped",
        "notes.txt": "in labels.csv, but not .jpg: skipped",
        **dict.fromkeys(IMAGES[2:], "not in labels.csv: used without a label"),
    }


def test_of_two_columns_of_one_kind_the_first_known_is_read():
    layout = read("class,file,label\n" + "".join(f"x,{n}.jpg,{n % 2}\n" for n in range(6)))
    assert layout.class_names == ("0", "1")
    assert layout.notes == ("in labels.csv the column label is read, not class",)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (
            f"id,breed\n{ROWS}",
            r"must have a header.* file \(file_name, file, .* class \(label, class, .*"
            "with the header 'id,breed' in labels.csv",
        ),
        (ROWS, "must have a header"),
        ("", "must have a header"),
        (f"file|label\n{ROWS}".replace(",", "|"), "parted by commas.*'file|label' in"),
        ("file,label\n0.jpg,a\n1.jpg,b\n2.jpg,b|a\n", r"one label; .* images/2.jpg as 'b|a'"),
        ('file,label\n0.jpg,a\n1.jpg,b\n2.jpg,"a, b"\n', "one label; .* images/2.jpg as 'a, b'"),
        ("file,label\n0.jpg,a\n1.jpg,['b']\n", "one label; several"),
        (f"file,label\n{ROWS}0.jpg,big, red\n", "quote cells with commas.*'0.jpg,big, red'"),
        (f"file\n{ROWS}", "must have a header"),
        (f"file,text\n{ROWS}", "must have a header"),
        (f"file,File,label\n{ROWS}", "must name each column once"),
        (f"file,label\n{ROWS}0.jpg,b\n", r"one label; .* with images/0.jpg as 'a' and 'b'"),
        (f"file,label\n{ROWS}0.jpg,\n", r"one label; .* with images/0.jpg as 'a' and ''"),
        (f"file,label\n{ROWS}images/0.jpg,b\n", "one label"),
        ("file,label,split\n0.jpg,a,train\n0.jpg,a,test\n", "one split; .*'train' and 'test'"),
        ("file,label,split\n0.jpg,a,fold1\n", "must be train, validation, .* with 'fold1'"),
        ("file,label,split\n0.jpg,a,train\n1.jpg,b,test\n", "test must all be in train; b is not"),
        ("file,label,split\n0.jpg,a,test\n1.jpg,b,test\n", "an image of the split train a label"),
        (
            "file,label\n70,a\n71,b\n",
            "must exist at these paths.* none of 2 listed files, such as 70",
        ),
        ("file,label\n", "none of 0 listed files"),
        ("file,label\n0.jpg,\n1.jpg,\n", "must give some images a label"),
        ("file,label\n,a\n", "Every row of labels.csv must name a file"),
        ('file,label\n0.jpg,"a\nb"\n', r"must be one line. .*'a\\nb'"),
        ('file,label\n0.jpg,"a\n', "must be a table of comma-separated values"),
        ("file,label\n0.jpg,caf\xe9\n".encode("latin1"), "must be text in UTF-8"),
    ],
)
def test_bad_tables_are_refused_with_one_line(content, rule):
    with pytest.raises(DatasetError, match=rule) as caught:
        read(content)
    assert "Received: folder:photos" in str(caught.value) and "\n" not in str(caught.value)


def read_all(files, *paths):
    """The layout of a folder of `paths` and of tables, path -> text."""
    return folder_table.layout_of(
        Paths(*paths, *files), is_image, ".jpg", lambda path: files[path].encode()
    )


def test_a_table_may_have_an_object_a_line():
    lines = [
        '{"file_name": "0.jpg", "label": "caf\u00e9", "boxes": [1, 2], "size": {"w": 3}}',
        "",
        '{"label": 7, "file_name": "1.jpg"}',
        '{"file_name": "2.jpg", "label": null}',
        '{"file_name": "3.jpg", "label": "a, b", "split": "test"}',
        '{"file_name": "4.jpg", "label": "a, b"}',
    ]
    layout = read("\ufeff" + "\r\n".join(lines), table="Metadata.jsonl")
    assert layout.splits == {
        "train": {"images/0.jpg": "café", "images/1.jpg": "7", "images/4.jpg": "a, b"},
        "test": {"images/3.jpg": "a, b"},
        "unlabelled": {"images/2.jpg": None, "images/5.jpg": None},
    }


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ('{"file": "0.jpg", "label": "a"}\n["1.jpg", "b"]\n', r"must be a JSON object.*line 2"),
        ('{"file": "0.jpg", "label": "a"}\n\n{"file": "1.jpg"\n', "must be a JSON object.*line 3"),
        ('{"file": "0.jpg", "text": "a"}\n', "must have a header.*'file,text' in"),
        ('{"file": "0.jpg", "label": ["a", "b"]}\n', "one label; several labels"),
        ("", "must have a header"),
    ],
)
def test_bad_objects_are_refused_with_one_line(content, rule):
    with pytest.raises(DatasetError, match=rule) as caught:
        read(content, table="labels.jsonl")
    assert "Received: folder:photos" in str(caught.value) and "\n" not in str(caught.value)


def test_a_table_in_each_folder_of_a_split_tells_its_classes():
    """As the `imagefolder` of Hugging Face's datasets lays images out."""
    tables = {
        "train/metadata.csv": "file_name,label\n0.jpg,a\n1.jpg,b\n2.jpg,\n9.jpg,a\n",
        "val/metadata.jsonl": '{"file_name": "0.jpg", "label": "b"}\n',
    }
    paths = ["train/{n}.jpg", "val/0.jpg", "test/{n}.jpg"]
    layout = read_all(tables, *paths)
    assert layout.splits == {
        "train": {"train/0.jpg": "a", "train/1.jpg": "b"},
        "unlabelled": {"train/2.jpg": None},
        "validation": {"val/0.jpg": "b"},
        "test": dict.fromkeys(f"test/{n}.jpg" for n in range(3)),
    }
    assert layout.folders == {"train": "train", "validation": "val", "test": "test"}
    assert layout.table == "train/metadata.csv and val/metadata.jsonl"
    assert layout.files["train/9.jpg"] == "in train/metadata.csv, but not found: skipped"
    assert not any("ignored" in note for note in layout.notes)


def test_images_of_a_split_may_lie_in_a_folder_of_it():
    tables = {
        "seg_train/labels.csv": "file,label\n0.jpg,a\n1.jpg,b\n",
        "seg_test/labels.csv": "file,label\n0,b\n",
    }
    paths = ["seg_train/images/0.jpg", "seg_train/images/1.jpg", "seg_test/images/0.jpg"]
    assert read_all(tables, *paths).splits == {
        "train": {"seg_train/images/0.jpg": "a", "seg_train/images/1.jpg": "b"},
        "test": {"seg_test/images/0.jpg": "b"},
    }


def test_a_table_in_the_folder_of_one_split_is_read():
    labels = {"train/labels.csv": "file,label\n0.jpg,a\n1.jpg,b\n2.jpg,a\n"}
    layout = read_all(labels, "train/{n}.jpg", "test/{n}.jpg")
    assert list(layout.splits["train"].values()) == ["a", "b", "a"]
    assert set(layout.splits["test"].values()) == {None}
    held_out = {"test/labels.csv": labels["train/labels.csv"]}
    with pytest.raises(DatasetError, match="test/labels.csv must give an image of the split train"):
        read_all(held_out, "train/{n}.jpg", "test/{n}.jpg")


def test_folders_of_classes_come_before_the_tables_of_splits():
    tables = {"train/metadata.csv": "file_name,text\na/0.jpg,a cat\n"}
    layout = read_all(tables, "train/a/{n}.jpg", "train/b/{n}.jpg", "test/a/{n}.jpg")
    assert layout.class_names == ("a", "b") and layout.table is None
    assert (
        layout.notes[-1] == "the folders give the classes; no labels are read from "
        "train/metadata.csv"
    )


def test_a_table_in_the_root_may_name_files_of_the_training_folder_without_it():
    rows = "file,label\n0.jpg,a\n1,b\n2.jpg,a\n"
    layout = read(rows, "train/{n}.jpg", "test/{n}.jpg")
    assert layout.splits == {
        "train": {"train/0.jpg": "a", "train/1.jpg": "b", "train/2.jpg": "a"},
        "test": dict.fromkeys(f"test/{n}.jpg" for n in range(3)),
    }
    assert layout.notes[0] == "labels.csv names files of train/ without it"
    # A file at the path itself, or in images/, comes first.
    layout = read(rows, "0.jpg", "images/1.jpg", "Train/{n}.jpg")
    labelled = {"0.jpg": "a", "images/1.jpg": "b", "Train/2.jpg": "a"}
    assert layout.splits["train"] == labelled


def test_two_tables_are_refused():
    with pytest.raises(DatasetError, match="must have one table.*labels.csv and metadata.csv"):
        folder_layout.table_of(Paths(*IMAGES, "metadata.csv", "labels.csv"))
    assert folder_layout.table_of(Paths(*IMAGES, "images/labels.csv", "other.csv")) is None
