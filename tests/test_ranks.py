"""Several processes share a fit: it is that of one process, and where one fails all end."""

import pytest
import torch
import torch.distributed as dist
from processes import CASES, Processes, case, fitted, found
from skorch.callbacks import Callback

from sknoisy import ALRClassifier


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


@pytest.mark.evidence
@pytest.mark.parametrize("name", CASES)
def test_processes_together_fit_as_one_does(name, group, alone):
    results, expected = group.call(case, name, distributed=True), alone(name)
    for result in results:
        assert result["epochs"] == expected["epochs"]
        for key in ("weights", "soft labels", "losses", "evidence"):
            if expected[key] is not None:
                torch.testing.assert_close(result[key], expected[key], rtol=0, atol=1e-9)
                assert torch.equal(result[key], results[0][key])


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


class Stop(Callback):
    """End training in one process alone, as one that looks at a clock may."""

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 4 and dist.get_rank() == 1:
            raise KeyboardInterrupt


def test_training_that_one_process_ends_ends_in_all(group):
    results = group.call(fit_with, Stop())
    for result in results:
        assert result["epochs"][0] == 4
        assert torch.equal(result["soft labels"], results[0]["soft labels"])


def given_otherwise(what):
    rank, (method, params) = dist.get_rank(), CASES["alr"]
    if what == "lr":
        return found(method, **params, lr=0.01 + rank / 100, distributed=True)
    n = 403 - rank if what == "X" else 403
    return found(method, n, **params, weighted=what == "weights" and rank == 0, distributed=True)


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
    with pytest.raises(TypeError, match="distributed must be True, False or a timedelta"):
        fitted(ALRClassifier, distributed="yes")
