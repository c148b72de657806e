"""Several processes share a fit: it is that of one process, and where one fails all end."""

import os
import signal
import subprocess
import sys
import warnings
from datetime import timedelta
from pathlib import Path
from unittest import mock

import joblib
import numpy as np
import pytest
import torch
import torch.distributed as dist
from processes import (
    CASES,
    PATIENCE,
    SHARED,
    Double,
    Normed,
    Processes,
    case,
    case_in_shared_memory,
    data,
    fitted,
    found,
)
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback
from torch.utils.data import Dataset

from sknoisy import ALRClassifier, SyntheticMixClassifier
from sknoisy.training import shared_memory, warmup_search


@pytest.fixture(scope="module", params=[2, 3])
def group(request, tmp_path_factory):
    group = Processes(request.param, tmp_path_factory.mktemp("group") / "store")
    yield group
    group.close()


@pytest.fixture(scope="module")
def alone():
    """What one process finds, by case."""
    done = {}

    def of(name):
        if name not in done:
            done[name] = case(name)
        return done[name]

    return of


@pytest.mark.slow
@pytest.mark.evidence
@pytest.mark.parametrize(
    ("group", "name"),
    # The shared ones go through three processes below.
    sorted((2 if name in SHARED else 3, name) for name in CASES),
    indirect=["group"],
)
def test_processes_together_fit_as_one_does(name, group, alone):
    results, expected = group.call(case, name, distributed=True), alone(name)
    for result in results:
        assert result["epochs"] == expected["epochs"]
        for key in ("weights", "soft labels", "losses", "evidence", "probabilities"):
            if expected[key] is not None:
                torch.testing.assert_close(result[key], expected[key], rtol=0, atol=1e-9)
                assert torch.equal(result[key], results[0][key])


@pytest.mark.slow
@pytest.mark.evidence
@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="memory is shared on Linux")
@pytest.mark.parametrize("group", [3], indirect=True)
@pytest.mark.parametrize("name", SHARED)
def test_tables_that_processes_share_are_those_of_one(name, group, alone):
    machines = ("a", "b", "a")
    results, expected = group.call(case_in_shared_memory, name, machines), alone(name)
    for result in results:
        assert result.pop("is shared")
        for key in ("weights", "soft labels", "losses", "evidence", "probabilities"):
            if expected[key] is not None:
                torch.testing.assert_close(result[key], expected[key], rtol=0, atol=1e-9)
                assert torch.equal(result[key], results[0][key])


def test_processes_that_cannot_tell_their_machine_share_none(monkeypatch):
    if hasattr(os, "memfd_create"):
        assert shared_memory.machine_name() == shared_memory.machine_name()
    monkeypatch.setattr(os, "readlink", mock.Mock(side_effect=PermissionError))
    assert shared_memory.machine_name() != shared_memory.machine_name()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("group", "method"), [(2, SyntheticMixClassifier), (3, ALRClassifier)], indirect=["group"]
)
def test_exact_batch_norm_is_that_of_one_process(method, group):
    params = {"module": Normed, "warmup_epochs": 2}
    params |= {"mix_start": 3} if method is SyntheticMixClassifier else {}
    expected = found(method, **params)
    for result in group.call(found, method, **params, distributed="exact"):
        torch.testing.assert_close(
            result["soft labels"], expected["soft labels"], rtol=0, atol=1e-7
        )
    of_parts = group.call(found, method, **params, distributed=True)
    assert torch.equal(of_parts[0]["weights"], of_parts[1]["weights"])
    assert not torch.allclose(of_parts[0]["weights"], expected["weights"], rtol=0, atol=1e-3)


class Raise(Callback):
    def __init__(self, rank, error):
        self.rank = rank
        self.error = error

    def on_batch_end(self, net, training=False, **kwargs):
        if training and len(net.history) == 3 and dist.get_rank() == self.rank:
            raise self.error


def fit_with(callback, **params):
    method, given = CASES["alr"]
    return found(method, **{**given, **params}, distributed=True, callbacks=[callback])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("a bad row"), "ValueError: a bad row"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_an_error_in_one_process_ends_the_fit_in_all_and_the_next_works(group, error, told, alone):
    group.send(fit_with, Raise(1, error))
    answers = group.answers()
    for rank, (value, failure) in enumerate(answers):
        assert value is None
        name, message, _ = failure
        if rank == 1:
            assert name == type(error).__name__
        else:
            assert name == "OthersFailedError"
            assert f"in another process, process 1: {told}" in message
    torch.testing.assert_close(
        group.call(case, "alr", distributed=True)[0]["weights"], alone("alr")["weights"]
    )


def interrupted_after_evidence():
    """Ctrl-C in one process, after nets of the evidence ended early by themselves."""
    warmup_search.PATIENT_EPOCHS = warmup_search.PATIENT_STEPS = 1
    try:
        return fit_with(Raise(1, KeyboardInterrupt()), evidence=True, max_epochs=12)
    finally:
        warmup_search.PATIENT_EPOCHS, warmup_search.PATIENT_STEPS = 5, 55


@pytest.mark.slow
@pytest.mark.evidence
def test_an_end_that_all_agreed_on_does_not_cover_a_later_interruption(group):
    group.send(interrupted_after_evidence)
    names = [failure[0] for _, failure in group.answers()]
    assert names[:2] == ["OthersFailedError", "KeyboardInterrupt"]


class Stop(Callback):
    """End training in one process alone, as one that looks at a clock may."""

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 4 and dist.get_rank() == 1:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_training_that_one_process_ends_ends_in_all(group):
    results = group.call(fit_with, Stop())
    for result in results:
        assert result["epochs"][0] == 4
        assert torch.equal(result["soft labels"], results[0]["soft labels"])


def given_otherwise(what):
    rank, (method, params) = dist.get_rank(), CASES["alr"]
    if what == "lr":
        return found(method, **params, lr=0.01 + rank / 100, distributed=True)
    n = 203 - rank if what == "X" else 203
    return found(method, n, **params, weighted=what == "weights" and rank == 0, distributed=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "name"), [("lr", "lr"), ("X", "X"), ("weights", "sample_weight or class_weight")]
)
def test_what_processes_were_given_must_be_the_same(group, what, name):
    group.send(given_otherwise, what)
    for _, failure in group.answers():
        assert failure[0] == "ValueError"
        assert f"distributed=True needs the same {name} in every process, got" in failure[1]


def test_a_process_group_is_asked_for_by_name():
    with pytest.raises(ValueError, match=r"needs a process group.*torchrun.*distributed=False"):
        fitted(ALRClassifier, distributed=True)
    with pytest.raises(TypeError, match="distributed must be True, False, 'exact' or a timedelta"):
        fitted(ALRClassifier, distributed="yes")


class Kill(Callback):
    """Send a process a signal at the end of a batch, once, if a file is there."""

    def __init__(self, armed, rank, epoch, signal_number=signal.SIGKILL):
        self.armed = armed
        self.rank = rank
        self.epoch = epoch
        self.signal_number = signal_number

    def on_batch_end(self, net, training=False, **kwargs):
        is_here = len(net.history) == self.epoch and dist.get_rank() == self.rank
        if training and is_here and self.armed.exists():
            self.armed.unlink()
            os.kill(os.getpid(), self.signal_number)


def fit_dropout_in_shared_memory(*arguments):
    """Return the same of a fit whose tables are in memory that processes share."""
    with mock.patch.object(shared_memory, "SHARED_BYTES", 0):
        return fit_dropout(*arguments)


def fit_dropout(folder, *callbacks, **params):
    """Return what a fit with dropout and checkpoints leaves."""
    params = {"module": None, "module__hidden": 8, "warmup_epochs": 2, "max_epochs": 8} | params
    params["batch_size"] = 100  # the last batch, of 3 rows, is passed by both processes
    return found(
        ALRClassifier,
        distributed=params.pop("distributed", True),
        checkpoint_dir=folder,
        callbacks=list(callbacks),
        **params,
    )


@pytest.mark.slow
def test_killed_processes_that_start_again_end_as_others_do(tmp_path):
    rank = 0  # which writes the checkpoints
    kill = Kill(tmp_path / "armed", rank, 5)
    kill.armed.touch()
    groups = [Processes(2, tmp_path / f"store{k}") for k in range(2)]
    try:
        groups[0].send(fit_dropout_in_shared_memory, str(tmp_path / "fit"), kill)
        answers = groups[0].answers()
        assert answers[rank] is None
        assert answers[1 - rank][1][0] in ("RuntimeError", "DistBackendError", "OthersFailedError")
        assert not kill.armed.exists()
        resumed = groups[1].call(fit_dropout_in_shared_memory, str(tmp_path / "fit"), kill)
        whole = groups[1].call(fit_dropout, str(tmp_path / "other"), kill)
    finally:
        for group in groups:
            group.close()
    for key in ("weights", "soft labels", "losses"):
        assert torch.equal(resumed[0][key], whole[0][key])
        assert torch.equal(resumed[1][key], whole[0][key])


@pytest.mark.slow
def test_a_process_that_stands_still_ends_the_fit_after_the_timeout(tmp_path):
    stop = Kill(tmp_path / "armed", 1, 3, signal.SIGSTOP)
    stop.armed.touch()
    group = Processes(2, tmp_path / "store")
    try:
        wait = timedelta(seconds=2)
        group.send(fit_dropout, str(tmp_path / "fit"), stop, distributed=wait)
        assert group.pipes[0].poll(PATIENCE)
        name, message, _ = group.pipes[0].recv()[1]
        assert name == "RuntimeError"
        assert "timed out" in message.lower()
    finally:
        group.close()


class Counted(Dataset):
    """Rows that note who reads them."""

    def __init__(self):
        self.X, self.y, _ = data()
        self.reads = np.zeros(len(self.X), dtype=int)

    def __len__(self):
        return len(self.X)

    def __getitem__(self, row):
        self.reads[row] += 1
        return torch.from_numpy(self.X[row]), int(self.y[row])


def reads_of(epochs):
    dataset = Counted()
    params = {"max_epochs": epochs, "warmup_epochs": 1, "evidence": False, "random_state": 0}
    ALRClassifier(Double, distributed=True, **params).fit(dataset)
    return dataset.reads.sum()


@pytest.mark.slow
def test_each_process_reads_its_share_of_a_dataset(group):
    shorter, longer = group.call(reads_of, 2), group.call(reads_of, 4)
    per_epoch = [(b - a) / 2 for a, b in zip(shorter, longer, strict=True)]
    assert sum(per_epoch) == 203
    assert max(per_epoch) - min(per_epoch) <= 4  # a row of each of four batches


@pytest.mark.slow
def test_processes_that_search_find_the_same(group):
    scores = group.call(search)
    assert all(np.array_equal(s, scores[0], equal_nan=True) for s in scores)
    assert np.isnan(scores[0]).any()  # of a setting that fails in one process


def search():
    """Search in each process, over settings of which one fails in one process alone."""
    X, y, _ = data(200)
    clf = ALRClassifier(
        Double, max_epochs=3, warmup_epochs=1, evidence=False, random_state=0, distributed=True
    )
    settings = [{"lr": [0.01, 0.02]}, {"callbacks": [[Raise(1, ValueError("here"))]]}]
    with warnings.catch_warnings(action="ignore"):
        found = GridSearchCV(clf, settings, cv=2, error_score=np.nan).fit(X, y)
    return found.cv_results_["mean_test_score"]


@pytest.mark.slow
def test_the_example_runs_by_itself(tmp_path):
    script = Path(__file__).parent.parent / "examples" / "several_processes.py"
    short = script.read_text().replace("max_epochs=20", "max_epochs=4")
    assert short != script.read_text()
    (tmp_path / script.name).write_text(short)
    command = [sys.executable, str(tmp_path / script.name)]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    assert "2 processes, the same soft labels" in told


def searched(**params):
    X, y, _ = data(200)
    clf = ALRClassifier(
        Double, max_epochs=3, warmup_epochs=1, evidence=False, random_state=0, **params
    )
    search = GridSearchCV(clf, {"lr": [0.01, 0.05]}, cv=2, error_score="raise")
    return search.fit(X, y).cv_results_["mean_test_score"]


@pytest.mark.slow
def test_a_search_over_dask_is_that_of_one_process():
    distributed = pytest.importorskip("dask.distributed")
    expected = searched()
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=50
    )
    with cluster, distributed.Client(cluster), joblib.parallel_config(backend="dask"):
        np.testing.assert_array_equal(searched(), expected)
        with pytest.raises(ValueError, match="needs a process group.*a worker of a search"):
            searched(distributed=True)
