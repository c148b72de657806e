"""What the pictures show; how they look is for eyes."""

import sys

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sknoisy import ALRClassifier, MetaLabelNetClassifier, SyntheticMixClassifier
from sknoisy.display import (
    EvidenceDisplay,
    LabelIssuesDisplay,
    NoiseMatrixDisplay,
    TrainingDisplay,
)
from sknoisy.display.evidence import reliability_curve
from sknoisy.issues import noise_transition_matrix
from sknoisy.noise import symmetric_noise

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(scope="module")
def fitted():
    X, y = make_blobs(200, centers=3, random_state=1)
    noisy = np.array(["ant", "bee", "cat"])[symmetric_noise(y, 0.2, random_state=0)]
    return SyntheticMixClassifier(max_epochs=20, random_state=0).fit(X, noisy), noisy


def draw_all(clf, noisy, ax=None):
    yield NoiseMatrixDisplay.from_estimator(clf, ax=ax)
    yield NoiseMatrixDisplay.from_predictions(noisy, clf.soft_labels_, ax=ax)
    yield LabelIssuesDisplay.from_estimator(clf, ax=ax)
    yield LabelIssuesDisplay.from_estimator(clf, np.zeros((200, 3, 4, 4)), ax=ax)
    yield LabelIssuesDisplay.from_predictions(noisy, clf.soft_labels_, ax=ax)
    yield TrainingDisplay.from_estimator(clf, ax=ax)


@pytest.mark.slow
def test_displays_draw_where_they_are_told_or_on_a_figure_of_their_own(fitted):
    for own in draw_all(*fitted):
        assert own.figure_ is own.ax_.figure
        own.figure_.canvas.draw()
    figure, ax = plt.subplots()
    for display in draw_all(*fitted, ax=ax):
        assert display.ax_ is ax
        assert display.figure_ is figure


def test_the_matrix_shows_mistakes_in_percent_and_masks_the_diagonal(fitted):
    clf, _ = fitted
    display = NoiseMatrixDisplay.from_estimator(clf)
    matrix, shown = noise_transition_matrix(clf), display.im_.get_array()
    assert shown.mask.tolist() == np.eye(3, dtype=bool).tolist()
    np.testing.assert_allclose(shown.data[~shown.mask], 100 * matrix[~np.eye(3, dtype=bool)])
    assert display.text_[0, 0].get_text() == f"{100 * matrix[0, 0]:.0f}"
    assert [t.get_text() for t in display.ax_.get_yticklabels()] == ["ant", "bee", "cat"]


def test_a_hundred_classes_get_no_numbers_and_few_names():
    y = np.arange(100).repeat(3)
    display = NoiseMatrixDisplay.from_predictions(y, np.eye(100)[y])
    assert display.text_ is None
    assert len(display.ax_.get_xticks()) == 25


def test_the_worst_labels_come_first(fitted):
    clf, noisy = fitted
    table = clf.label_issues().head(5)
    display = LabelIssuesDisplay.from_estimator(clf, n_rows=5)
    assert [issue[0] for issue in display.issues] == table.position.tolist()
    assert [issue[1] for issue in display.issues] == table["given_label"].tolist()
    given, believed = display.bars_
    row = table.position.iloc[0]
    column = clf.classes_.tolist().index(noisy[row])
    assert given.patches[0].get_width() == pytest.approx(clf.soft_labels_[row, column])
    assert believed.patches[0].get_width() == pytest.approx(clf.soft_labels_[row].max())


def test_images_are_the_rows_of_x_channels_last(fitted):
    clf, _ = fitted
    X = np.random.default_rng(0).integers(0, 256, (200, 3, 6, 5), dtype=np.uint8)
    display = LabelIssuesDisplay.from_estimator(clf, X, n_rows=4)
    worst = clf.label_issues().position.to_numpy()[:4]
    assert len(display.images_) == 4
    image = display.images_[0].get_array()
    expected = X[worst[0]].transpose(1, 2, 0).astype(float)
    assert image.shape == (6, 5, 3)
    assert np.corrcoef(image.ravel(), expected.ravel())[0, 1] == pytest.approx(1)
    assert "→" in display.text_[0].get_text()


def test_phases_are_shaded_and_the_curves_are_the_history(fitted):
    clf, _ = fitted
    display = TrainingDisplay.from_estimator(clf)
    phases = ["warmup", "mixup", "mix", "unmixed"]
    assert [span.get_label() for span in display.spans_] == phases
    for name, line in display.lines_.items():
        np.testing.assert_allclose(line.get_ydata(), clf.history_[:, name])


@pytest.mark.slow
def test_labels_of_any_type_and_names_with_dollars_are_drawn():
    X, y = make_blobs(60, centers=2, random_state=1)
    labels = np.array(["a $^$", "b"], dtype=object)[y]
    clf = ALRClassifier(max_epochs=3, random_state=0).fit(X, labels)
    for display in (NoiseMatrixDisplay, LabelIssuesDisplay):
        display.from_estimator(clf).figure_.canvas.draw()


def test_pictures_keep_their_shape_and_may_come_from_a_dataset(fitted):
    clf, _ = fitted
    images = np.random.default_rng(0).normal(size=(200, 4, 10))
    for X in (images, [(image, 0) for image in images]):
        display = LabelIssuesDisplay.from_estimator(clf, X, n_rows=2)
        left, right, bottom, top = display.images_[0].get_extent()
        assert (bottom - top) / (right - left) == pytest.approx(0.4)


@pytest.mark.slow
@pytest.mark.parametrize("display", [NoiseMatrixDisplay, LabelIssuesDisplay, TrainingDisplay])
def test_a_pipeline_is_drawn_as_the_estimator_at_its_end(fitted, display):
    clf, _ = fitted
    pictures = []
    for estimator in (clf, make_pipeline(clf), make_pipeline("passthrough", make_pipeline(clf))):
        figure = display.from_estimator(estimator).figure_
        figure.canvas.draw()
        pictures.append(np.asarray(figure.canvas.buffer_rgba()))
    for picture in pictures[1:]:
        np.testing.assert_array_equal(picture, pictures[0])
    with pytest.raises(TypeError, match="must be one of this library's, or a Pipeline"):
        display.from_estimator(make_pipeline(LogisticRegression()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_rows": 0}, "n_rows must be an integer of at least 1, got 0"),
        ({"X": np.zeros((50, 4, 4))}, "X must have 200 rows, as the labels, got 50"),
        ({"X": 3}, "X must have 200 rows"),
        ({"X": np.zeros((200, 4, 8, 8))}, "1 or 3 channels"),
    ],
)
def test_wrong_arguments_are_named(fitted, arguments, message):
    with pytest.raises(ValueError, match=message):
        LabelIssuesDisplay.from_estimator(fitted[0], **arguments)


def test_one_epoch_is_a_picture_too():
    X, y = make_blobs(60, centers=2, random_state=0)
    clf = ALRClassifier(max_epochs=2, warmup_epochs=1, random_state=0).fit(X, y)
    assert len(TrainingDisplay.from_estimator(clf).spans_) == 2


def test_without_matplotlib_the_way_out_is_named(fitted, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="sknoisy\\[plot\\]"):
        NoiseMatrixDisplay.from_estimator(fitted[0])


def test_reliability_bins_hold_as_many_rows_each():
    confidence = np.linspace(0.5, 1, 40)
    proba = np.stack([confidence, 1 - confidence], axis=1)
    given = (np.arange(40) % 4 == 0).astype(int)  # three of four are predicted, everywhere
    x, y = reliability_curve(proba, given)
    np.testing.assert_allclose(x, confidence.reshape(10, 4).mean(axis=1))
    np.testing.assert_allclose(y, 0.75)
    assert len(reliability_curve(proba[:3], given[:3])[0]) == 3


@pytest.mark.evidence
def test_evidence_is_drawn_as_reliability_and_held_out_curves():
    X, y = make_blobs(200, centers=3, random_state=1)
    names = np.array(["ant", "bee", "cat"])[symmetric_noise(y, 0.2, random_state=0)]
    clf = ALRClassifier(max_epochs=12, random_state=0).fit(X, names)
    found = clf.evidence_
    display = EvidenceDisplay.from_estimator(clf)
    curve = display.lines_["corrected"].get_ydata()
    np.testing.assert_array_equal(curve, found.losses_corrected)
    assert len(curve) == 12
    assert len(found.losses_plain) >= found.warmup_epochs
    given = np.searchsorted(clf.classes_, names)
    expected = reliability_curve(found.proba @ found.transition, given)
    np.testing.assert_allclose(display.lines_["after"].get_xydata().T, expected)
    own = plt.subplots(1, 2)[1]
    assert EvidenceDisplay.from_estimator(clf, ax=own).ax_.tolist() == own.tolist()
    bare = ALRClassifier(max_epochs=2, evidence=False, warmup_epochs=1).fit(X, y)
    with pytest.raises(ValueError, match="evidence_ None"):
        EvidenceDisplay.from_estimator(bare)
    with pytest.raises(ValueError, match="must be a pair of Axes"):
        EvidenceDisplay.from_estimator(clf, ax=own[0])
    other = EvidenceDisplay.from_estimator(make_pipeline(clf))
    np.testing.assert_array_equal(other.lines_["corrected"].get_ydata(), curve)


@pytest.mark.slow
@pytest.mark.evidence
def test_trusted_rows_are_left_out_of_the_reliability_diagram():
    X, y = make_blobs(200, centers=3, random_state=1)
    trusted, given = np.arange(200) < 50, symmetric_noise(y, 0.2, random_state=0)
    given = np.where(trusted, y, given)
    clf = MetaLabelNetClassifier(max_epochs=8, random_state=0).fit(X, given, trusted=trusted)
    found = clf.evidence_
    expected = reliability_curve(found.proba[50:] @ found.transition, given[50:])
    line = EvidenceDisplay.from_estimator(clf).lines_["after"]
    np.testing.assert_allclose(line.get_xydata().T, expected)
