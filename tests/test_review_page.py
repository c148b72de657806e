"""The review page as a file: which rows it has, what it shows of them, what it holds."""

import base64
import json
import re
from io import BytesIO

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from PIL import Image
from scipy.sparse import csr_matrix
from sklearn.datasets import make_blobs
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils.data import TensorDataset

from sknoisy import ALRClassifier
from sknoisy.issues import find_label_issues
from sknoisy.noise import symmetric_noise
from sknoisy.review import write_page
from sknoisy.review.contents import data_uri
from sknoisy.review.selection import draw_by_class, draw_sample, proportional

RNG = np.random.default_rng(0)
N = 60
NAMES = np.array(["ant", "bee", "cat"])
GIVEN = np.r_[0, 1, 2, RNG.integers(3, size=N - 3)]
PROBA = RNG.dirichlet(np.ones(3), N)
JUDGED = {"y": NAMES[GIVEN], "pred_probs": PROBA}


def page_of(path):
    """Return what the script of a page reads."""
    html = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="page-data">(.*?)</script>', html, re.DOTALL).group(1))


@pytest.fixture
def write(tmp_path):
    def write(X=None, **params):
        path = tmp_path / "review.html"
        params = {**JUDGED, **params}
        return write_page(X=X, path=path, **params), page_of(path)

    return write


def rows_of(page, key):
    return [row[key] for row in page["rows"]]


def test_issues_are_those_of_the_table_worst_first(write):
    table, page = write(np.eye(N), n_rows=7)
    worst = find_label_issues(**JUDGED).head(7)
    assert table["row"].tolist() == rows_of(page, "row") == worst["position"].tolist()
    assert table["given"].tolist() == worst["given_label"].tolist()
    assert table["suggested"].tolist() == worst["predicted_label"].tolist()
    assert [page["classes"][k] for k in rows_of(page, "given")] == worst["given_label"].tolist()
    assert set(table["origin"]) == {"issue"}
    assert page["rows"][0]["quality"] == pytest.approx(worst["label_quality"].iloc[0], abs=1e-3)


@pytest.mark.parametrize("rows", [[5, 3, 40], np.array([5, 3, 40]), torch.tensor([5, 3, 40])])
def test_chosen_rows_come_as_they_are(write, rows):
    table, page = write(np.eye(N), rows=rows, n_rows=1)
    assert table["row"].tolist() == rows_of(page, "row") == [5, 3, 40]
    assert set(table["origin"]) == {"chosen"}
    mask = np.isin(np.arange(N), [5, 3, 40])
    assert write(np.eye(N), rows=mask)[0]["row"].tolist() == [3, 5, 40]


def test_a_mixed_page_holds_a_sample_and_the_worst_of_the_others(write):
    table, _ = write(np.eye(N), rows="mixed", n_rows=21, random_state=0)
    sample = table["row"][table["origin"] == "sample"].tolist()
    alone, _ = write(np.eye(N), rows="sample", n_rows=10, random_state=0)
    assert sample == alone["row"].tolist()
    others = [row for row in find_label_issues(**JUDGED)["position"] if row not in sample]
    assert table["row"][table["origin"] == "issue"].tolist() == others[:11]


def test_a_sample_mirrors_strata_and_classes():
    rng = np.random.RandomState(0)
    given, quality = rng.randint(4, size=4000), rng.random_sample(4000)
    sample = draw_sample(given, quality, 400, rng)
    assert len(set(sample.rows.tolist())) == 400
    for name, low, high in (("unlikely", 0, 0.5), ("unsure", 0.5, 0.8), ("sure", 0.8, 1.01)):
        inside = (quality >= low) & (quality < high)
        drawn = sample.rows[np.array(sample.strata) == name]
        assert inside[drawn].all()
        assert len(drawn) == pytest.approx(400 * inside.mean(), abs=1)
        assert set(np.array(sample.sizes)[np.array(sample.strata) == name]) == {inside.sum()}
        for k in range(4):
            expected = len(drawn) * (inside & (given == k)).sum() / inside.sum()
            assert abs((given[drawn] == k).sum() - expected) < 1


def test_each_row_of_a_stratum_is_drawn_as_often():
    rng = np.random.RandomState(0)
    given = np.array([0] * 7 + [1] * 3 + [2])
    counts = np.zeros(11)
    for _ in range(4000):
        counts[draw_by_class(np.arange(11), given, 4, rng)] += 1
    np.testing.assert_allclose(counts / 4000, 4 / 11, atol=0.03)


@pytest.mark.parametrize(
    ("sizes", "n_rows", "counts"),
    [
        ([60, 30, 10], 10, [6, 3, 1]),
        ([980, 15, 5], 10, [8, 1, 1]),
        ([980, 0, 20], 10, [9, 0, 1]),
        ([5, 5, 5], 2, None),
        ([3, 2, 1], 6, [3, 2, 1]),
        ([1, 0, 0], 1, [1, 0, 0]),
    ],
)
def test_rows_are_split_in_proportion_and_no_stratum_is_left_out(sizes, n_rows, counts):
    found = proportional(np.array(sizes), n_rows)
    assert found.sum() == n_rows
    assert (found <= sizes).all()
    if counts is not None:
        assert found.tolist() == counts


def test_the_sample_follows_the_seed(write):
    rows = [write(np.eye(N), rows="sample", n_rows=9, random_state=s)[0]["row"] for s in (0, 0, 1)]
    assert rows[0].tolist() == rows[1].tolist() != rows[2].tolist()


def test_no_more_rows_than_there_are(write):
    assert len(write(np.eye(N))[0]) == N
    assert sorted(write(np.eye(N), rows="sample", n_rows=1000)[0]["row"]) == list(range(N))


def test_an_estimator_is_judged_like_its_table(tmp_path):
    X, y = make_blobs(60, centers=3, random_state=1)
    frame = pd.DataFrame(X, [f"id{k}" for k in range(60)], ["width", "height"])
    pipeline = make_pipeline(StandardScaler(), ALRClassifier(max_epochs=4, random_state=0))
    pipeline.fit(frame, NAMES[symmetric_noise(y, 0.3, random_state=0)])
    table = write_page(pipeline, frame, tmp_path / "review.html", n_rows=5)
    worst = find_label_issues(pipeline)
    assert table["row"].tolist() == worst["position"].head(5).tolist()
    alone = ALRClassifier(max_epochs=4, random_state=0).fit(frame, pipeline[-1].given_labels_)
    table = write_page(alone, frame, tmp_path / "review.html", n_rows=5)
    assert table["index"].tolist() == [f"id{k}" for k in table["row"]]
    assert page_of(tmp_path / "review.html")["columns"] == ["width", "height"]


def test_without_pandas_a_structured_array(write, monkeypatch):
    frame, _ = write(np.eye(N), rows="mixed", n_rows=20, random_state=0)
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    table, _ = write(np.eye(N), rows="mixed", n_rows=20, random_state=0)
    assert table.dtype.names == tuple(frame.columns)
    for name in frame.columns:
        np.testing.assert_array_equal(table[name], frame[name])


def test_classes_that_no_row_has_are_not_offered(write):
    proba = np.c_[0.4 * PROBA, np.full(N, 0.6)]
    table, page = write(np.eye(N), pred_probs=proba, classes=[*NAMES, "yak"])
    assert page["classes"] == NAMES.tolist()
    assert "yak" not in set(table["suggested"])


def test_columns_of_frames_have_their_names_and_types(write):
    data = {"size": RNG.random(N), "legs": np.arange(N), "body": [f"text {k}" for k in range(N)]}
    for frame in (pd.DataFrame(data), pl.DataFrame(data)):
        table, page = write(frame)
        k = table["row"][0]
        assert page["columns"] == ["size", "legs", "body"]
        assert page["rows"][0]["cells"] == [f"{data['size'][k]:.6g}", str(k), f"text {k}"]
        _, page = write(frame, text="body", columns=["legs"])
        assert (page["columns"], page["rows"][0]["text"]) == (["legs"], f"text {k}")
        assert write(frame, text="body")[1]["columns"] == ["size", "legs"]
        assert "cells" not in write(frame, text="body", columns=[])[1]["rows"][0]


def test_columns_of_arrays_are_numbered_or_named(write):
    X = RNG.random((N, 2)).astype(np.float32)
    table, page = write(X)
    assert page["columns"] == ["0", "1"]
    assert page["rows"][0]["cells"] == [f"{v:.6g}" for v in X[table["row"][0]].tolist()]
    assert write(X.tolist(), columns=["a", "b"])[1]["columns"] == ["a", "b"]
    texts = [f"text {k}" for k in range(N)]
    assert "cells" not in write(X, text=texts)[1]["rows"][0]
    assert write(X, text=texts, columns=["a", "b"])[1]["columns"] == ["a", "b"]


def as_objects(values):
    return np.array(values, dtype=object)


@pytest.mark.parametrize("kind", [list, np.array, as_objects, pd.Series, pl.Series])
def test_texts_are_known_by_their_type(write, kind):
    texts = [f"<b>{k}</b>" for k in range(N)]
    if kind is not np.array:
        texts[0] = None
    table, page = write(kind(texts))
    assert rows_of(page, "text") == [texts[k] or "" for k in table["row"]]


def test_a_text_that_is_missing_is_empty(write):
    frame = pd.DataFrame({"body": pd.Series([None, "a"] * (N // 2), dtype="string"), "b": np.nan})
    table, page = write(frame, text="body")
    assert rows_of(page, "text") == ["a" if k % 2 else "" for k in table["row"]]
    assert page["rows"][0]["cells"] == [""]


def pixels(uri):
    head, _, data = uri.partition(",")
    assert re.fullmatch(r"data:image/(png|jpeg);base64", head)
    return np.asarray(Image.open(BytesIO(base64.b64decode(data))))


IMAGES = RNG.integers(256, size=(N, 9, 7, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    "images",
    [
        IMAGES,
        IMAGES / 255,
        IMAGES.transpose(0, 3, 1, 2),
        torch.from_numpy(IMAGES),
        list(IMAGES),
        [Image.fromarray(image) for image in IMAGES],
        TensorDataset(torch.from_numpy(IMAGES), torch.zeros(N)),
    ],
    ids=["bytes", "floats", "channels first", "tensor", "list", "PIL", "dataset"],
)
def test_images_in_all_their_forms(write, images):
    for params in ({"X": images}, {"images": images}, {"X": np.eye(N), "images": images}):
        table, page = write(**params)
        np.testing.assert_array_equal(pixels(page["rows"][0]["image"]), IMAGES[table["row"][0]])
        assert "cells" not in page["rows"][0]


def test_images_of_files_and_gray_ones(write, tmp_path):
    paths = [tmp_path / f"{k}.png" for k in range(N)]
    for path, image in zip(paths, IMAGES, strict=True):
        Image.fromarray(image).save(path)
    for named in (paths, pd.Series(list(map(str, paths)), np.arange(N)[::-1])):
        table, page = write(images=named)
        np.testing.assert_array_equal(pixels(page["rows"][0]["image"]), IMAGES[table["row"][0]])
    table, page = write(IMAGES[..., 0])
    np.testing.assert_array_equal(pixels(page["rows"][0]["image"]), IMAGES[table["row"][0], ..., 0])


def test_large_images_are_scaled_down_and_keep_their_form():
    assert pixels(data_uri(np.zeros((900, 600, 3), np.uint8))).shape == (320, 213, 3)
    assert pixels(data_uri(Image.new("RGBA", (3000, 10)))).shape == (1, 320, 3)
    assert len(data_uri(RNG.random((1000, 1000, 3)))) < 100_000


HOSTILE = "</script><script>alert(1)</script><!--\u2028{{ 7 * 7 }}"


def test_the_file_holds_no_foreign_markup(write, tmp_path):
    y = np.array([HOSTILE, "bee", "cat"])[GIVEN]
    frame = pd.DataFrame({HOSTILE: [HOSTILE] * N}, index=[HOSTILE] * N)
    _, page = write(frame, y=y, classes=[HOSTILE, "bee", "cat"])
    html = (tmp_path / "review.html").read_text(encoding="utf-8")
    assert html.count("<script") == html.count("</script") == 2
    assert "\u2028" not in html
    assert page["columns"] == [HOSTILE]
    assert page["rows"][0]["cells"] == [HOSTILE]
    assert not re.search(r"https?:", html)


def test_a_page_is_known_by_its_labels_and_rows(write):
    ids = [
        write(np.eye(N), **params)[1]["id"]
        for params in ({}, {}, {"n_rows": 5}, {"y": NAMES[(GIVEN + 1) % 3]})
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"X": None}, "X must be given, or text or images"),
        ({"X": np.eye(3)}, "X must have 60 rows, as the labels, got 3"),
        ({"text": ["a"]}, "text must have 60 rows, as the labels, got 1"),
        ({"images": IMAGES[:4]}, "images must have 60 rows, as the labels, got 4"),
        ({"text": "body"}, "text must be a column of X, .*got 'body'; X is of type ndarray"),
        ({"X": pd.DataFrame(np.eye(N)), "text": "body"}, "'body'; X is a frame with columns"),
        ({"X": pd.DataFrame(np.eye(N)), "columns": ["a"]}, "columns of X, got 'a'"),
        ({"columns": ["a"]}, "columns must name the 60 columns of X, got 1 names"),
        (
            {"X": pd.DataFrame({"age": range(N)}), "columns": "age"},
            r"a list .*'age'; put it in \[\]",
        ),
        ({"X": np.arange(N)}, r"table or hold texts or images to be shown, got shape \(60,\)"),
        ({"X": csr_matrix(np.eye(N))}, "got a sparse matrix; pass text="),
        ({"X": np.zeros((N, 4, 4, 7))}, "images with 1 or 3 channels"),
        ({"rows": "worst"}, "rows must be one of .*, or an array of row numbers, got 'worst'"),
        ({"rows": [0.5]}, "got float64 of shape"),
        ({"rows": []}, "m at least 1"),
        ({"rows": [0, 60]}, r"numbers in \[0, 60\), got numbers in \[0, 60\]"),
        ({"rows": [1, 1]}, "1 of 2 different"),
        ({"rows": np.ones(3, bool)}, "a mask of 60 rows, got bool of shape"),
        ({"n_rows": 0}, "n_rows must be an integer of at least 1, got 0"),
        ({"n_rows": 2.5}, "n_rows must be an integer of at least 1, got 2.5"),
        ({"y": None}, "y must be given with pred_probs"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, params, message):
    params = {"X": np.eye(N), **JUDGED, **params}
    with pytest.raises(ValueError, match=message):
        write_page(path=tmp_path / "review.html", **params)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a folder that exists, got .*none; create it"):
        write_page(path=tmp_path / "none" / "review.html", X=np.eye(N), **JUDGED)


def test_what_holds_rows_and_is_no_set_of_them_is_refused_as_in_fit(tmp_path):
    with pytest.raises(TypeError, match="X must be an array.*got dict; pass one array"):
        write_page(path=tmp_path / "review.html", X={"a": np.eye(N)}, **JUDGED)
