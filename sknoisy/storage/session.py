"""Context of a fit: seed, callbacks and checkpoints, and a roll-back on errors."""

from contextlib import ExitStack, closing, contextmanager
from numbers import Integral

from sklearn.utils import check_random_state
from torch import nn

from sknoisy.inputs import TrainingData
from sknoisy.storage.checkpoint_folder import folder_of
from sknoisy.storage.fingerprint import fingerprint_of
from sknoisy.training.evidence import Evidence
from sknoisy.training.net import resolve_device
from sknoisy.training.ranks import ALONE
from sknoisy.training.seeds import MAX_SEED, seeded
from sknoisy.training.sklearn_callbacks import CallbackAdapter

# The first process's counts, or each may have its own; so is a module's, whose weights are shared.
OF_ONE_PROCESS = {"random_state", "callbacks", "device"}


@contextmanager
def unchanged_on_error(estimator):
    """Restore the estimator's attributes if the block raises."""
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


class FitSession:
    """Context of a fit: its seed and device, scikit-learn's callbacks, its checkpoints.

    As a context manager it seeds the generators and restores them; an error inside leaves the
    estimator unchanged.

    Parameters
    ----------
    estimator : estimator
        The one to fit.
    X, y : inputs and labels
        As the user gave them.
    ranks : Ranks or Alone
        The processes that share the fit; the first one reads and writes its checkpoints.
    """

    def __init__(self, estimator, X, y, ranks=ALONE):
        self.estimator = estimator
        self.ranks = ranks
        self.device = ranks.device(resolve_device(estimator.device))
        most = None if estimator.max_epochs == "auto" else estimator.max_epochs
        # Before anything can fail: their end hook runs only where their begin hook has run.
        self.sklearn_callbacks = CallbackAdapter(estimator, X, y, most)
        folder = estimator.checkpoint_dir
        self.folder = None if folder is None else folder_of(folder, ranks)
        state = None if self.folder is None else self.folder.state
        self.resumed = state and {k: state[k] for k in ("seed", "found_warmup", "evidence")}
        self.seed = ranks.first(check_random_state(estimator.random_state).randint(MAX_SEED))
        if self.resumed is not None and not isinstance(estimator.random_state, Integral):
            self.seed = self.resumed["seed"]

    def __enter__(self):
        self.stack = ExitStack()
        if self.folder is not None:
            self.stack.enter_context(closing(self.folder))
        self.stack.enter_context(unchanged_on_error(self.estimator))
        self.stack.enter_context(seeded(self.seed, self.device))
        return self

    def __exit__(self, *error):
        return self.stack.__exit__(*error)

    @property
    def found_warmup(self):
        """The result of an interrupted fit's warm-up search, or None."""
        return self.resumed and self.resumed["found_warmup"]

    @property
    def evidence(self):
        """What an interrupted fit had gathered as evidence, or None."""
        state = self.resumed and self.resumed["evidence"]
        return state and Evidence.from_state(state)

    def fingerprint(self, data: TrainingData) -> dict | None:
        """Return the fingerprint of a fit with checkpoints, which must have the same; else None.

        Raise in all processes that share the fit where one of them has another.
        """
        if self.folder is None and self.ranks.size == 1:
            return None
        found = fingerprint_of(self.estimator, data.by_name())
        if self.ranks.size > 1:
            found["number of processes"] = str(self.ranks.size)
            is_own = set(OF_ONE_PROCESS)
            if isinstance(self.estimator.module, nn.Module):
                is_own.add("module")
            self.ranks.check_same({k: v for k, v in found.items() if k not in is_own})
        if self.folder is not None:
            self.folder.check(found)
        return found
