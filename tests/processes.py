"""Processes that fit together, and the fits that they share; a test sends them functions."""

import multiprocessing
import traceback
import warnings
from contextlib import ExitStack, nullcontext
from random import Random
from time import sleep
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from skorch.callbacks import EarlyStopping
from skorch.dataset import ValidSplit
from told import HELPS, told
from torch import nn
from toy import ToyClassifier

from sknoisy import ALRClassifier, MetaLabelNetClassifier, SyntheticMixClassifier
from sknoisy.noise import symmetric_noise
from sknoisy.training import LabelCallback, SoftTargetLoss, shared_memory
from sknoisy.training.ranks import Ranks
from sknoisy.training.trusted_linear import TrustedLinear

PATIENCE = 120  # seconds that a test waits for an answer


class Double(nn.Module):
    """A network in float64, without dropout and BatchNorm."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, 16), nn.Tanh(), nn.Linear(16, n_classes)
        ).double()

    def forward(self, X):
        return self.layers(X.double() / 8)


class Normed(Double):
    """The same with BatchNorm."""

    def __init__(self, n_features, n_classes):
        super().__init__(n_features, n_classes)
        self.layers.insert(1, nn.BatchNorm1d(16, dtype=torch.float64))


def data(n=203):
    X, true = load_digits(return_X_y=True)
    X, true = X[:n].astype(np.float32), true[:n]
    return X, symmetric_noise(true, 0.3, random_state=0), true


def fitted(
    method,
    n=203,
    weighted=False,
    trusted=None,
    unlabeled=False,
    judged=False,
    pooled=False,
    **params,
):
    """Return an estimator, fitted."""
    X, y, true = data(n)
    arguments = {}
    if weighted:
        arguments["sample_weight"] = np.random.RandomState(0).rand(n)
    if trusted == "beside":
        arguments |= {"meta_X": X[:50], "meta_y": true[:50]}
        X, y = X[50:], y[50:]
    if trusted == "mask":
        arguments["trusted"] = (y == true) & (np.arange(n) < 90)
    if unlabeled:
        arguments["unlabeled_X"] = data(n + 60)[0][n:]
    params = {"module": Double, "lr": 0.01, "max_epochs": 6, "evidence": False} | params
    of_evidence = told(HELPS) if judged else nullcontext()
    of_linear = mock.patch.object(TrustedLinear, "is_better", True) if pooled else nullcontext()
    with warnings.catch_warnings(action="ignore"), of_evidence, of_linear:
        return method(random_state=0, **params).fit(X, y, **arguments)


def found(*arguments, **params):
    """Return what a fit leaves."""
    return left(fitted(*arguments, **params))


def left(clf):
    """Return what a fitted estimator has found."""
    return {
        "weights": torch.cat([p.detach().flatten() for p in clf.module_.parameters()]),
        "soft labels": torch.tensor(clf.soft_labels_),
        "losses": torch.tensor(clf.history_[:, "train_loss"]),
        "epochs": (clf.n_iter_, clf.warmup_epochs_),
        "evidence": None if clf.evidence_ is None else torch.tensor(clf.evidence_.proba),
        "probabilities": torch.tensor(clf.predict_proba(data(20)[0])),
    }


STOP = {"train_split": ValidSplit(5), "callbacks": [EarlyStopping(patience=1)]}
MIX = {"warmup_epochs": 1, "mix_start": 3, "target_update_every": 2}
META = {"warmup_epochs": 2, "virtual_lr": 0.1, "meta_lr": 0.01}
CASES = {
    "alr": (ALRClassifier, {}),
    "alr evidence": (ALRClassifier, {"evidence": True, "max_epochs": 8}),
    "alr weighted evidence": (
        ALRClassifier,
        {"evidence": True, "max_epochs": 8, "weighted": True, "class_weight": "balanced"},
    ),
    "alr weighted, stopped": (
        ALRClassifier,
        {"weighted": True, "class_weight": "balanced", "warmup_epochs": 2, "max_epochs": 10} | STOP,
    ),
    "alr until settled": (
        ALRClassifier,
        {"max_epochs": "auto", "warmup_epochs": 2, "batch_size": 20, "momentum": 0.7},
    ),
    "alr last batch of 3": (ALRClassifier, {"batch_size": 100, "warmup_epochs": 1}),
    "alr lbfgs": (
        ALRClassifier,
        {"batch_size": -1, "optimizer": torch.optim.LBFGS, "lr": 0.1, "warmup_epochs": 1},
    ),
    "alr judged": (
        ALRClassifier,
        {"evidence": True, "max_epochs": 6, "judged": True, "n": 121, "weighted": True},
    ),
    "another method": (ToyClassifier, {"evidence": True, "max_epochs": 8, "warmup_epochs": 2}),
    "mix": (SyntheticMixClassifier, MIX),
    "mix all, last batch of 3": (
        SyntheticMixClassifier,
        MIX | {"neighbors": "all", "batch_size": 100},
    ),
    "mix evidence": (SyntheticMixClassifier, {"evidence": True, "max_epochs": 9}),
    "mix weighted, held out": (
        SyntheticMixClassifier,
        MIX | {"weighted": True, "train_split": ValidSplit(5)},
    ),
    "meta": (MetaLabelNetClassifier, META | {"trusted": "beside"}),
    "meta evidence": (
        MetaLabelNetClassifier,
        {"evidence": True, "max_epochs": 8, "trusted": "mask"},
    ),
    "meta pooled": (
        MetaLabelNetClassifier,
        {"evidence": True, "max_epochs": 6, "trusted": "mask", "n": 203, "pooled": True},
    ),
    "meta double backward": (
        MetaLabelNetClassifier,
        META | {"trusted": "mask", "hypergradient": "double-backward", "class_weight": "balanced"},
    ),
    "meta finite difference": (
        MetaLabelNetClassifier,
        META | {"trusted": "beside", "hypergradient": "finite-difference", "restore_best": True},
    ),
    "meta generated": (MetaLabelNetClassifier, META | {"labels": "generated", "trusted": "beside"}),
    "meta unlabeled, last batch of 3": (
        MetaLabelNetClassifier,
        META | {"trusted": "mask", "unlabeled": True, "batch_size": 65},
    ),
}


def case(name, **changes):
    """Return what a fit of a case leaves."""
    method, params = CASES[name]
    return found(method, **params, **changes)


SHARED = (
    "alr judged",
    "alr weighted evidence",
    "alr last batch of 3",
    "another method",
    "mix all, last batch of 3",
    "meta evidence",
    "meta generated",
    "meta pooled",
    "meta unlabeled, last batch of 3",
)


DAWDLED = [
    (SoftTargetLoss, "__init__"),
    (LabelCallback, "on_train_begin"),
    (LabelCallback, "on_epoch_begin"),
    (LabelCallback, "share_written"),
    (LabelCallback, "_record"),
    (Ranks, "once"),
]


def dawdle(owner, name, random):
    """Return a patch by which a method waits a little, now and then, before and after it runs."""
    method = getattr(owner, name)

    def dawdling(*arguments, **params):
        sleep(0.01 * (random.random() < 0.2))
        found = method(*arguments, **params)
        sleep(0.01 * (random.random() < 0.2))
        return found

    return mock.patch.object(owner, name, dawdling)


def case_in_shared_memory(name, machines):
    """Return what a fit leaves whose tables processes of a machine share, and if they did.

    The processes do not keep pace.
    """
    own, random = machines[dist.get_rank()], Random(dist.get_rank())
    with ExitStack() as stack:
        names = {"SHARED_BYTES": 0, "machine_name": lambda: own}
        stack.enter_context(mock.patch.multiple(shared_memory, **names))
        for owner, method in DAWDLED:
            stack.enter_context(dawdle(owner, method, random))
        method, params = CASES[name]
        clf = fitted(method, **params, distributed=True)
    with open("/proc/self/maps") as file:
        return left(clf) | {"is shared": "memfd:sknoisy" in file.read()}


def serve(rank, size, path, pipe):
    """Answer the test until it hangs up."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=size)
    while True:
        try:
            function, arguments, params = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((function(*arguments, **params), None))
        except BaseException as error:
            pipe.send((None, (type(error).__name__, str(error), traceback.format_exc())))


def answer(pipe):
    """Return what a process answers; None if it is no more."""
    try:
        return pipe.recv()
    except (EOFError, ConnectionResetError):
        return None


class Failed(Exception):
    """An error in one of the processes, by its name."""


class Processes:
    """So many processes in one group."""

    def __init__(self, size, path):
        context = multiprocessing.get_context("forkserver")  # which imports torch once for all
        context.set_forkserver_preload(["sknoisy", "torch._dynamo"])
        pairs = [context.Pipe() for _ in range(size)]
        self.pipes = [mine for mine, _ in pairs]
        self.all = [
            context.Process(target=serve, args=(rank, size, path, pairs[rank][1]), daemon=True)
            for rank in range(size)
        ]
        for process, (_, theirs) in zip(self.all, pairs, strict=True):
            process.start()
            theirs.close()

    def send(self, function, *arguments, **params):
        """Send a call to all."""
        for pipe in self.pipes:
            pipe.send((function, arguments, params))

    def answers(self):
        """Return pairs: what each process returned, and its error; None for one that is no more."""
        for pipe in self.pipes:
            assert pipe.poll(PATIENCE), "a process does not answer"
        return [answer(pipe) for pipe in self.pipes]

    def call(self, function, *arguments, **params):
        """Return what each process returns."""
        self.send(function, *arguments, **params)
        answers = self.answers()
        for _, error in answers:
            if error is not None:
                raise Failed(error[2])
        return [value for value, _ in answers]

    def close(self):
        """End them."""
        for process in self.all:
            process.kill()
