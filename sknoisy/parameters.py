"""Parameters of the estimators, skorch's dunder ones included: names and values."""

import inspect
import math
from difflib import get_close_matches
from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_scalar

from sknoisy.training.net import AMP_TYPES
from sknoisy.training.user_callbacks import DEFAULTS, monitored, names_of, objects_of

SKORCH_PREFIXES = (
    "module",
    "optimizer",
    "iterator_train",
    "iterator_valid",
    "callbacks",
    "compile",
)

# What the loaders cannot take, and the way out.
NOT_TAKEN = {
    "iterator_train__batch_sampler": "pass batch_size, and iterator_train__sampler for the order.",
    "iterator_valid__batch_sampler": "pass iterator_valid__batch_size.",
}
# Names of other libraries, and what they are here.
ELSEWHERE = {
    "hidden": "module__hidden",
    "hidden_layers": "module__hidden",
    "n_iter_no_change": "callbacks=[skorch.callbacks.EarlyStopping(patience=...)]",
    "tol": "callbacks=[skorch.callbacks.EarlyStopping(threshold=...)]",
    "learning_rate": "lr",
    "learning_rate_init": "lr",
    "max_iter": "max_epochs",
    "epochs": "max_epochs",
    "n_epochs": "max_epochs",
    "hidden_layer_sizes": "module__hidden",
    "alpha": "optimizer__weight_decay",
    "weight_decay": "optimizer__weight_decay",
    "dropout": "module__dropout",
    "early_stopping": "callbacks=[skorch.callbacks.EarlyStopping()] with train_split=ValidSplit(5)",
    "validation_fraction": "train_split=skorch.dataset.ValidSplit(5)",
    "warm_start": "checkpoint_dir, with which an interrupted fit goes on",
    "seed": "random_state",
}


# Parameters of `fit` that another estimator has, and what to do.
OF_FIT = dict.fromkeys(
    ("eval_set", "validation_data", "X_val"),
    "held-out rows are given by train_split=skorch.helper.predefined_split(dataset)",
)
OF_FIT |= {"epochs": "it is max_epochs of the estimator", "labels": "they are y"}


def check_number(value, name, kind, low, high=None, *, closed="both", auto=False):
    """Raise TypeError or ValueError unless low <= value <= high, or 'auto' where that is one."""
    if auto and isinstance(value, str) and value == "auto":
        return
    if auto and isinstance(value, str):
        raise ValueError(f"{name} must be 'auto' or a number, got {value!r}.")
    try:
        check_scalar(value, name, kind, min_val=low, max_val=high, include_boundaries=closed)
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value}.")
    except (TypeError, ValueError) as error:
        if auto:
            raise type(error)(f"{str(error).removesuffix('.')}; or pass 'auto'.") from None
        raise


def check_choice(value, name, choices):
    """Raise ValueError unless value is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}.")


class SkorchParams:
    """Mixin of an estimator with `skorch_params`: gets and sets them with its own parameters.

    `skorch_params` holds skorch's dunder parameters, such as ``module__hidden``.
    """

    def get_params(self, deep=True):
        """Return all parameters, skorch's dunder parameters included."""
        return {**super().get_params(deep=deep), **self.skorch_params}

    def set_params(self, **params):
        """Set parameters, skorch's dunder parameters (``module__*`` ...) included."""
        refuse_unknown(type(self), params)
        own = {k: v for k, v in params.items() if k in _own_params(type(self))}
        super().set_params(**own)
        dunder = {k: v for k, v in params.items() if k not in own}
        self.skorch_params = {**self.skorch_params, **dunder}
        return self


def refuse_unknown(cls, params) -> None:
    """Raise TypeError for names that no parameter of the class has, with the nearest one."""
    known = _own_params(cls)
    for name in params:
        # scikit-learn's checks also pass the catch-all's own name; skorch refuses that in fit.
        if name in known or _is_skorch_param(name) or name == "skorch_params":
            continue
        hint = _nearest_name(name, known) or (
            f"valid names: {', '.join(known)}, and those that begin with"
            f" {', '.join(f'{p}__' for p in SKORCH_PREFIXES)}."
        )
        raise TypeError(f"{cls.__name__} has no parameter {name}: {hint}")


def check_training_params(estimator) -> None:
    """Raise unless the parameters of the training, which all estimators share, are in range."""
    check_number(estimator.lr, "lr", Real, 0, closed="neither")
    check_number(estimator.max_epochs, "max_epochs", Integral, 1, auto=True)
    if estimator.batch_size != -1:  # skorch's way to say all rows at once
        check_number(estimator.batch_size, "batch_size", Integral, 1)
    if estimator.amp not in (False, *AMP_TYPES):
        raise ValueError(f"amp must be False, 'bf16' or 'fp16', got {estimator.amp!r}.")
    if not callable(estimator.optimizer):
        raise TypeError(f"optimizer must be a class of torch.optim, got {estimator.optimizer!r}.")
    if not (estimator.train_split is None or callable(estimator.train_split)):
        raise TypeError(
            f"train_split must be None, skorch.dataset.ValidSplit(...) or"
            f" skorch.helper.predefined_split(dataset), got {estimator.train_split!r}."
        )
    for name in ("evidence", "calibrate"):
        if not isinstance(getattr(estimator, name), bool | np.bool_):
            raise TypeError(f"{name} must be True or False, got {getattr(estimator, name)!r}.")
    if not (estimator.callbacks is None or isinstance(estimator.callbacks, list | tuple)):
        raise TypeError(
            f"callbacks must be None or a list of skorch callbacks, got {estimator.callbacks!r}."
        )
    for callback in objects_of(estimator.callbacks or []):
        if not hasattr(callback, "on_train_begin"):
            raise TypeError(
                "callbacks must hold skorch callbacks, or pairs of a name and one, got"
                f" {callback!r}."
            )
    check_callbacks(estimator.callbacks or [], estimator.skorch_params, estimator.train_split)
    for name in NOT_TAKEN:
        if name in estimator.skorch_params:
            raise ValueError(f"{name} must not be given: {NOT_TAKEN[name]}")


def check_callbacks(callbacks, skorch_params, train_split) -> None:
    """Raise for parameters of callbacks that are not there, or monitors of rows that are not."""
    names = names_of(callbacks)
    for param in skorch_params:
        prefix, _, rest = param.partition("__")
        name = rest.partition("__")[0]
        if prefix == "callbacks" and name not in (*names, *DEFAULTS):
            close = get_close_matches(name, names, n=1)
            hint = f"did you mean callbacks__{close[0]}?" if close else f"it has {names}."
            raise ValueError(f"{param} must name one of callbacks: {hint}")
    if train_split is not None:
        return
    for name, callback in zip(names, objects_of(callbacks), strict=True):
        monitor = skorch_params.get(f"callbacks__{name}__monitor", monitored(callback))
        if isinstance(monitor, str) and monitor.startswith("valid_"):
            raise ValueError(
                f"callbacks must monitor what there is: {name} monitors {monitor!r}, of held-out"
                " rows, and train_split=None holds none out; pass"
                " train_split=skorch.dataset.ValidSplit(5, stratified=True)."
            )


def _own_params(cls):
    parameters = inspect.signature(cls.__init__).parameters.values()
    return sorted(p.name for p in parameters if p.name != "self" and p.kind != p.VAR_KEYWORD)


def _nearest_name(name, known):
    """Return a hint at the parameter that `name` may have meant, or an empty string."""
    prefix, dunder, rest = name.partition("__")
    close = get_close_matches(prefix, SKORCH_PREFIXES, n=1) if dunder and rest else []
    guesses = [f"{p}__{rest}" for p in close]
    guesses += [
        f"{p}__{name.removeprefix(p).lstrip('_')}"
        for p in SKORCH_PREFIXES
        if name.startswith(f"{p}_") and name.removeprefix(p).strip("_")
    ]
    guesses += [ELSEWHERE[name]] if name in ELSEWHERE else get_close_matches(name, known, n=1)
    return f"did you mean {guesses[0]}?" if guesses else ""


def _is_skorch_param(name):
    prefix, dunder, rest = name.partition("__")
    return bool(prefix in SKORCH_PREFIXES and dunder and rest)
