"""Context of a fit: seed, callbacks and checkpoints, and a roll-back on errors."""

from contextlib import ExitStack, closing, contextmanager
from numbers import Integral

from sklearn.utils import check_random_state

from sknoisy.inputs import TrainingData
from sknoisy.storage.checkpoint import CheckpointFolder
from sknoisy.storage.fingerprint import fingerprint_of
from sknoisy.training.evidence import Evidence
from sknoisy.training.net import resolve_device
from sknoisy.training.seeds import MAX_SEED, seeded
from sknoisy.training.sklearn_callbacks import CallbackAdapter


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
    """

    def __init__(self, estimator, X, y):
        self.estimator = estimator
        self.device = resolve_device(estimator.device)
        most = None if estimator.max_epochs == "auto" else estimator.max_epochs
        # Before anything can fail: their end hook runs only where their begin hook has run.
        self.sklearn_callbacks = CallbackAdapter(estimator, X, y, most)
        folder = estimator.checkpoint_dir
        self.folder = None if folder is None else CheckpointFolder(folder)
        state = None if self.folder is None else self.folder.state
        self.resumed = state and {k: state[k] for k in ("seed", "found_warmup", "evidence")}
        self.seed = check_random_state(estimator.random_state).randint(MAX_SEED)
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
        """Return the fingerprint of a fit with checkpoints, which must have the same; else None."""
        if self.folder is None:
            return None
        found = fingerprint_of(self.estimator, data.by_name())
        self.folder.check(found)
        return found
