"""A fit that is killed goes on, and ends as if it had not been."""

import os
import random
import signal
import time
from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import torch
from conftest import METHODS
from scipy.sparse import csr_matrix
from sklearn.datasets import make_blobs
from skorch.callbacks import Callback, EarlyStopping, LRScheduler, ProgressBar
from skorch.dataset import ValidSplit
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import TensorDataset
from toy import ToyClassifier

from sknoisy import ALRClassifier, MetaLabelNetClassifier, SyntheticMixClassifier
from sknoisy.metalabelnet.label_net import LabelNetwork
from sknoisy.noise import symmetric_noise
from sknoisy.storage import checkpoint_folder, fingerprint
from sknoisy.storage.checkpoint_folder import CheckpointFolder, read_state
from sknoisy.training.warmup_search import WarmupSearch

pytestmark = pytest.mark.filterwarnings(
    "ignore:No trusted rows:UserWarning", "ignore:target_momentum", "ignore:max_epochs must"
)
X, Y = make_blobs(240, 4, centers=3, cluster_std=3.0, random_state=0)
META = {"meta_X": X[:30], "meta_y": Y[:30]}


class Killed(Exception):
    pass


def stop_after(monkeypatch, epochs):
    """Let the process 'die' right after the file of an epoch is there."""
    write = CheckpointFolder.write

    def write_and_die(self, state):
        write(self, state)
        if len(state["history"]) == epochs:
            raise Killed

    monkeypatch.setattr(CheckpointFolder, "write", write_and_die)


def fit_with_deaths(monkeypatch, make, deaths, folder, *args, **fit_params):
    for epochs in deaths:
        with monkeypatch.context() as patch:
            stop_after(patch, epochs)
            with pytest.raises(Killed):
                make().set_params(checkpoint_dir=folder).fit(*args, **fit_params)
    return make().set_params(checkpoint_dir=folder).fit(*args, **fit_params)


def assert_same(clf, other):
    np.testing.assert_array_equal(clf.predict_proba(X), other.predict_proba(X))
    np.testing.assert_array_equal(clf.soft_labels_, other.soft_labels_)
    for (name, tensor), kept in zip(
        clf.module_.state_dict().items(), other.module_.state_dict().values(), strict=True
    ):
        assert torch.equal(tensor, kept), name
    for row, other_row in zip(clf.history_, other.history_, strict=True):
        drop = ("dur", "batches")
        assert {k: v for k, v in row.items() if k not in drop} == {
            k: v for k, v in other_row.items() if k not in drop
        }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "params", "fit_params"),
    [
        (ALRClassifier, {}, {}),
        (ALRClassifier, {"class_weight": "balanced"}, {"sample_weight": np.linspace(0, 2, 240)}),
        (SyntheticMixClassifier, {"loss_history": 3}, {}),
        (SyntheticMixClassifier, {"neighbors": "all", "warmup_epochs": 1, "mix_start": 4}, {}),
        (MetaLabelNetClassifier, {}, META),
        (MetaLabelNetClassifier, {"restore_best": True, "meta_every": 3}, META),
        (MetaLabelNetClassifier, {"labels": "generated"}, META),
        (MetaLabelNetClassifier, {}, {"meta_X": X[Y > 0][:20], "meta_y": Y[Y > 0][:20]}),
        (MetaLabelNetClassifier, {}, {}),
        (MetaLabelNetClassifier, {}, {"trusted": np.arange(240) < 40}),
        (MetaLabelNetClassifier, {}, {**META, "unlabeled_X": X[:50] + 0.1}),
        (MetaLabelNetClassifier, {"optimizer": torch.optim.SGD, "lr": 0.2}, META),
        (ToyClassifier, {}, {"averages": np.full((240, 3), 1 / 3)}),
    ],
)
def test_a_fit_that_dies_ends_bit_identical(method, params, fit_params, monkeypatch, tmp_path):
    def make():
        sizes = {"max_epochs": 16, "batch_size": 64, "module__hidden": 32}
        return method(**sizes | params, random_state=0)

    whole = make().fit(X, Y, **fit_params)
    resumed = fit_with_deaths(monkeypatch, make, [1, 2, 5, 9, 16], tmp_path, X, Y, **fit_params)
    assert_same(whole, resumed)
    learned = "max_noise_rate_", "agreement_"
    for name in ("clean_probability_", "best_epoch_", "n_meta_", "hypergradient_", *learned):
        if hasattr(whole, name):
            assert np.array_equal(getattr(whole, name), getattr(resumed, name))


@pytest.mark.slow
@pytest.mark.parametrize("rows", [X, csr_matrix(X)])
def test_features_that_are_not_kept_are_computed_anew(rows, monkeypatch, tmp_path):
    def make():
        return MetaLabelNetClassifier(max_epochs=8, batch_size=64, random_state=0)

    params = {"trusted": np.arange(240) < 40, "unlabeled_X": rows[:50]}
    whole, kept = make().fit(rows, Y, **params), []

    class Watched(LabelNetwork):
        def __init__(self, features, linear):
            super().__init__(features, linear)
            kept.append(features.nbytes)

    monkeypatch.setattr("sknoisy.metalabelnet.callback.LabelNetwork", Watched)
    monkeypatch.setattr("sknoisy.metalabelnet.callback.MOST_KEPT", 100_000)
    resumed = fit_with_deaths(monkeypatch, make, [2, 5, 8], tmp_path, rows, Y, **params)
    assert kept
    assert not any(kept)
    assert_same(whole, resumed)
    make().set_params(labels="generated").fit(rows, Y, **params)  # of all rows, at the end
    assert kept[-1] > 100_000


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_callbacks_splits_images_and_augmentation_go_on_as_well(method, monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 1, 8, 8), dtype=np.uint8)
    labels = rng.integers(0, 2, 60)
    images[labels == 1, :, :4] //= 4

    def make():
        return method(
            max_epochs=8,
            batch_size=32,
            augment="auto",
            random_state=0,
            train_split=ValidSplit(0.2),
            amp="bf16",
            callbacks=[
                LRScheduler(CosineAnnealingLR, T_max=8),
                ("stop", EarlyStopping(patience=20, load_best=True)),
            ],
        )

    whole = make().fit(images, labels)
    resumed = fit_with_deaths(monkeypatch, make, [1, 3, 6], tmp_path, images, labels)
    np.testing.assert_array_equal(whole.predict_proba(images), resumed.predict_proba(images))
    np.testing.assert_array_equal(whole.soft_labels_, resumed.soft_labels_)
    assert [row["event_lr"] for row in whole.history_] == [
        row["event_lr"] for row in resumed.history_
    ]


@pytest.mark.slow
def test_early_stopping_ends_a_resumed_fit_at_the_same_epoch(monkeypatch, tmp_path):
    def make():
        return ALRClassifier(
            max_epochs=60,
            warmup_epochs=2,
            random_state=0,
            train_split=ValidSplit(0.2),
            callbacks=[("stop", EarlyStopping("valid_acc", lower_is_better=False, patience=9))],
        )

    whole = make().fit(X, Y)
    assert 5 < whole.n_iter_ < 60
    assert_same(whole, fit_with_deaths(monkeypatch, make, [2, 4], tmp_path, X, Y))


@pytest.mark.slow
def test_labels_that_settle_end_a_resumed_fit_at_the_same_epoch(monkeypatch, tmp_path):
    X, y = make_blobs(240, 4, centers=6, random_state=0)
    y = symmetric_noise(y, 0.3, random_state=0)

    def make():
        return ALRClassifier(warmup_epochs=2, batch_size=16, random_state=0, evidence=False)

    whole = make().fit(X, y)
    least, last = 2 + whole._labels.settles_after, whole.n_iter_
    assert least < last < whole.net_.max_epochs
    assert_same(whole, fit_with_deaths(monkeypatch, make, [least, last - 1], tmp_path, X, y))


class NoteHeldOut(Callback):
    seen = []  # noqa: RUF012 - of all copies

    def on_epoch_begin(self, net, dataset_valid=None, **kwargs):
        self.seen.append(tuple(dataset_valid.indices))


def test_without_random_state_the_seed_is_that_of_the_fit_that_died(monkeypatch, tmp_path):
    def make():
        split = ValidSplit(0.2)
        return ALRClassifier(
            max_epochs=6, batch_size=64, train_split=split, callbacks=[NoteHeldOut()]
        )

    NoteHeldOut.seen.clear()
    first = fit_with_deaths(monkeypatch, make, [1, 3], tmp_path, X, Y)
    assert len(set(NoteHeldOut.seen)) == 1
    again = make().set_params(checkpoint_dir=tmp_path).fit(X, Y)
    assert_same(first, again)
    assert first.n_iter_ == 6


def test_a_dataset_goes_on(monkeypatch, tmp_path):
    data = TensorDataset(torch.from_numpy(X).float(), torch.from_numpy(Y))

    network = nn.Linear(4, 3)

    def make():
        return SyntheticMixClassifier(network, max_epochs=8, random_state=0)

    whole = make().fit(data)
    resumed = fit_with_deaths(monkeypatch, make, [2, 5], tmp_path, data)
    np.testing.assert_array_equal(whole.predict_proba(data), resumed.predict_proba(data))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process")
@pytest.mark.parametrize("method", METHODS)
def test_killed_at_random_moments(method, tmp_path):
    def make():
        return method(max_epochs=15, batch_size=32, module__hidden=32, random_state=0)

    whole = make().fit(X, Y)
    start = time.perf_counter()
    make().fit(X, Y)
    longest = time.perf_counter() - start
    rng, kills, finished = random.Random(0), 0, 0
    while kills < 7:
        folder = tmp_path / str(finished)
        child = os.fork()
        if child == 0:
            try:
                make().set_params(checkpoint_dir=folder).fit(X, Y)
            finally:
                os._exit(0)
        time.sleep(rng.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        if os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            kills += 1
        else:
            assert_same(whole, make().set_params(checkpoint_dir=folder).fit(X, Y))
            finished += 1
            longest *= 0.7  # of the time a fit takes, to kill the next one
    assert_same(whole, make().set_params(checkpoint_dir=tmp_path / str(finished)).fit(X, Y))


def fitted(folder, **params):
    return ALRClassifier(max_epochs=4, random_state=0, checkpoint_dir=folder, **params).fit(X, Y)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lr": 0.5}, "holds a fit with lr=0.001, this one has lr=0.5"),
        ({"module__hidden": 8}, "holds a fit with module__hidden=None, this one has .*=8"),
        ({"random_state": 1}, "random_state=0, this one has random_state=1"),
        ({"max_epochs": 9}, "max_epochs=4, this one has max_epochs=9"),
        ({"optimizer": torch.optim.SGD}, "optimizer=torch.optim.adamw.AdamW, this one has"),
        (
            {"class_weight": {0: 2, 1: 1, 2: 1}},
            "class_weight=None, this one has class_weight={0: 2",
        ),
    ],
)
def test_other_parameters_are_refused(change, said, tmp_path):
    clf = fitted(tmp_path)
    before = clf.predict_proba(X)
    with pytest.raises(ValueError, match=said):
        clf.set_params(**change).fit(X, Y)
    np.testing.assert_array_equal(clf.predict_proba(X), before)


def test_other_data_are_refused(tmp_path):
    clf = fitted(tmp_path)
    with pytest.raises(ValueError, match="holds a fit with X=<.*>, this one has X=<"):
        clf.fit(X + 1e-3, Y)
    with pytest.raises(ValueError, match="with y=<"):
        clf.fit(X, (Y + 1) % 3)
    with pytest.raises(ValueError, match="with sample_weight or class_weight=<"):
        clf.fit(X, Y, sample_weight=np.arange(240))
    with pytest.raises(ValueError, match="holds a fit with estimator=ALRClassifier"):
        SyntheticMixClassifier(checkpoint_dir=tmp_path).fit(X, Y)


def test_another_parameter_of_fit_is_refused(tmp_path):
    trusted = np.arange(240) < 40
    clf = MetaLabelNetClassifier(max_epochs=3, random_state=0)
    for name, given, others in (
        ("mask", {"trusted": trusted}, [{"trusted": ~trusted}, META, {}]),
        ("meta", META, [{"meta_X": X[:30] + 1, "meta_y": Y[:30]}, {"trusted": trusted}]),
    ):
        clf.set_params(checkpoint_dir=tmp_path / name).fit(X, Y, **given)
        for other in others:
            with pytest.raises(ValueError, match="holds a fit with trusted"):
                clf.fit(X, Y, **other)
    averages = np.full((240, 3), 1 / 3)
    toy = ToyClassifier(max_epochs=2, random_state=0, checkpoint_dir=tmp_path / "toy")
    toy.fit(X, Y, averages=averages.tolist())
    toy.fit(X, Y, averages=torch.from_numpy(averages))
    averages[100] = [1, 0, 0]
    for changed in (averages, averages.tolist(), torch.from_numpy(averages)):
        with pytest.raises(ValueError, match="holds a fit with averages"):
            toy.fit(X, Y, averages=changed)


def test_a_resumed_fit_does_not_search_again(monkeypatch, tmp_path):
    searches, search = [], WarmupSearch._train

    def spy(self, limit):
        searches.append(limit)
        return search(self, limit)

    monkeypatch.setattr(WarmupSearch, "_train", spy)

    def make():
        return ALRClassifier(max_epochs=6, random_state=0)

    fit_with_deaths(monkeypatch, make, [2, 4], tmp_path, X, Y)
    assert len(searches) == 1


def test_an_augmentation_that_draws_from_numpy_goes_on_as_well(monkeypatch, tmp_path):
    def shake(batch):
        return batch + torch.from_numpy(np.random.rand(*batch.shape).astype(np.float32))  # noqa: NPY002

    def make():
        return ALRClassifier(max_epochs=6, augment=shake, random_state=0)

    whole = make().fit(X, Y)
    assert_same(whole, fit_with_deaths(monkeypatch, make, [2, 4], tmp_path, X, Y))


def test_another_version_is_refused(tmp_path, monkeypatch):
    clf = fitted(tmp_path)
    monkeypatch.setattr(fingerprint, "__version__", "0.0.1")
    with pytest.raises(ValueError, match="version of sknoisy=.*, this one has .*=0.0.1"):
        clf.fit(X, Y)


def cut(content):
    return content[: len(content) // 2]


def flip(content):
    changed = bytearray(content or b"?")
    changed[len(changed) * 2 // 3] ^= 4
    return bytes(changed)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [cut, flip, lambda _: b"", lambda _: b"something else"])
def test_a_damaged_file_is_refused_and_the_one_before_used(damage, tmp_path):
    whole = fitted(tmp_path)
    before, last = sorted(tmp_path.glob("*.checkpoint"))
    last.write_bytes(damage(last.read_bytes()))
    with pytest.warns(UserWarning, match=f"cannot be used, .*{last.name}"):
        folder = CheckpointFolder(tmp_path)
    assert folder.epochs_done == 3
    folder.close()
    with pytest.warns(UserWarning, match="The one before it is used"):
        assert_same(whole, fitted(tmp_path))
    before.write_bytes(b"")
    for file in tmp_path.glob("*.checkpoint"):
        file.write_bytes(damage(file.read_bytes()))
    with pytest.warns(UserWarning, match="cannot be used"):
        assert_same(whole, fitted(tmp_path))


def test_a_file_is_there_only_once_it_is_whole(tmp_path, monkeypatch):
    fitted(tmp_path)
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"epoch-000003.checkpoint", "epoch-000004.checkpoint", "fit.lock"}

    def fail(*args):
        raise OSError("no space left")

    monkeypatch.setattr("sknoisy.storage.atomic.os.replace", fail)
    with pytest.raises(OSError, match="no space left"):
        checkpoint_folder.write_state(tmp_path / "epoch-000005.checkpoint", {"history": []})
    assert not (tmp_path / "epoch-000005.checkpoint").exists()


def test_a_file_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    checkpoint_folder.write_state(
        tmp_path / "epoch-000001.checkpoint", {"history": [], "evil": Evil()}
    )
    with pytest.raises(Exception, match="Weights only load failed"):
        read_state(tmp_path / "epoch-000001.checkpoint")
    assert not (tmp_path / "ran").exists()


class Opaque(Callback):
    def on_train_begin(self, net, **kwargs):
        self.file_ = object()


def test_callbacks_without_a_plain_state_are_refused_at_once(tmp_path):
    clf = ALRClassifier(callbacks=[Opaque()], checkpoint_dir=tmp_path)
    with pytest.raises(TypeError, match="got Opaque.file_ of type object; leave the callback out"):
        clf.fit(X, Y)
    assert not list(tmp_path.glob("*.checkpoint"))


def test_files_of_others_stay(tmp_path):
    (tmp_path / "epoch-best.pt").write_text("mine")
    (tmp_path / "epoch-plots").mkdir()
    fitted(tmp_path)
    assert (tmp_path / "epoch-best.pt").read_text() == "mine"
    assert (tmp_path / "epoch-plots").is_dir()


def test_two_fits_in_one_folder_are_refused(tmp_path):
    clf = fitted(tmp_path)
    held = CheckpointFolder(tmp_path)
    with pytest.raises(ValueError, match="checkpoint_dir must be .* another fit writes to it"):
        clf.fit(X, Y)
    held.close()
    clf.fit(X, Y)


@pytest.mark.parametrize("path", ["file", 5])
def test_a_path_that_is_no_folder_is_refused(path, tmp_path):
    (tmp_path / "file").touch()
    path = tmp_path / path if isinstance(path, str) else path
    with pytest.raises(ValueError, match="checkpoint_dir must be a folder to write to, got"):
        ALRClassifier(checkpoint_dir=path).fit(X, Y)


class Shift:
    def __init__(self, by):
        self.by = by

    def __call__(self, batch):
        return batch + self.by


def small(n_features, n_classes, width=4):
    return nn.Sequential(nn.Linear(n_features, width), nn.ReLU(), nn.Linear(width, n_classes))


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("train_split", ValidSplit(3), ValidSplit(10)),
        (
            "callbacks",
            [LRScheduler(CosineAnnealingLR, T_max=10)],
            [LRScheduler(CosineAnnealingLR, T_max=9)],
        ),
        ("augment", Shift(0.1), Shift(0.2)),
        ("module", nn.Sequential(nn.Linear(4, 3)), nn.Sequential(nn.Dropout(0.9), nn.Linear(4, 3))),
        ("module", partial(small, width=4), partial(small, width=5)),
        ("random_state", np.random.RandomState(0), np.random.RandomState(1)),
    ],
)
def test_objects_are_compared_by_what_they_hold(name, before, after, tmp_path):
    assert fingerprint.describe(before) == fingerprint.describe(deepcopy(before))
    assert fingerprint.describe(before) != fingerprint.describe(after)
    clf = ALRClassifier(max_epochs=3, warmup_epochs=1, checkpoint_dir=tmp_path)
    clf.set_params(**{"random_state": 0, name: deepcopy(before)}).fit(X, Y)
    with pytest.raises(ValueError, match=f"holds a fit with {name}="):
        clf.set_params(**{name: after}).fit(X, Y)


def test_a_module_that_counts_batches_is_known_again(tmp_path):
    def fit():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
        clf = ALRClassifier(module, max_epochs=3, warmup_epochs=1, evidence=False, random_state=0)
        return clf.set_params(checkpoint_dir=tmp_path).fit(X, Y)

    np.testing.assert_array_equal(fit().predict_proba(X), fit().predict_proba(X))


def test_numbers_of_numpy_are_the_same_as_pythons(tmp_path):
    clf = fitted(tmp_path)
    clf.set_params(max_epochs=np.int64(4), lr=np.float64(0.001)).fit(X, Y)


def test_progress_bars_and_callbacks_that_come_later_do_not_matter(tmp_path, monkeypatch):
    def make():
        return ALRClassifier(max_epochs=6, random_state=0, callbacks=[ProgressBar()])

    whole = ALRClassifier(max_epochs=6, random_state=0).fit(X, Y)
    resumed = fit_with_deaths(monkeypatch, make, [2, 3], tmp_path, X, Y)
    np.testing.assert_array_equal(whole.predict_proba(X), resumed.predict_proba(X))


def test_the_same_callback_object_goes_on(monkeypatch, tmp_path):
    stop = EarlyStopping("train_loss", patience=50)

    def make():
        return ALRClassifier(max_epochs=6, random_state=0, callbacks=[stop])

    whole = make().fit(X, Y)
    assert_same(whole, fit_with_deaths(monkeypatch, make, [2, 4], tmp_path, X, Y))
