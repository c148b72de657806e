"""scikit-learn's own callbacks, such as its ProgressBar, on estimators that train a skorch net."""

from skorch.callbacks import Callback

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # before scikit-learn 1.9

    class CallbackSupportMixin:
        """Stands in for scikit-learn's mixin, which came with 1.9."""

    def with_callbacks(method):
        """Return the method: there are no callbacks to end."""
        return method


class CallbackAdapter:
    """Runs the scikit-learn callbacks that were set on an estimator, epoch by epoch.

    Parameters
    ----------
    estimator : estimator
        Begins to fit.
    X, y : inputs and labels
        As the user gave them; scorers predict on them.
    max_epochs : int or None
        The most epochs that the fit may take; None if the data decide.
    """

    def __init__(self, estimator, X, y, max_epochs):
        self.estimator = estimator
        self.data = {"X": X, "y": y}
        self.context = None
        if hasattr(estimator, "_skl_callbacks"):
            self.context = estimator._init_callback_context(max_subtasks=max_epochs)
            self.context.call_on_fit_task_begin(estimator=estimator, **self.data)

    def skorch_callbacks(self):
        """Return the skorch callbacks that the net needs: one, or none without any set."""
        return [] if self.context is None else [("sknoisy_sklearn_callbacks", EpochHooks(self))]

    def begin_epoch(self):
        """Run the hooks at the beginning of an epoch."""
        self.task = self.context.subcontext(task_name="epoch")
        self.task.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def end_epoch(self, net):
        """Run the hooks at the end of an epoch; scorers get an estimator with the net as it is."""
        self.task.call_on_fit_task_end(
            estimator=self.estimator,
            reconstruction_attributes=lambda: {"net_": net},
            **self.data,
        )

    def end(self):
        """Run the hooks at the end of the fit."""
        if self.context is not None:
            self.context.call_on_fit_task_end(
                estimator=self.estimator,
                reconstruction_attributes=lambda: {"net_": self.estimator.net_},
                **self.data,
            )


class EpochHooks(Callback):
    """skorch's hooks that run an adapter's; those of a pickled or copied net do nothing."""

    def __init__(self, adapter=None):
        self.adapter = adapter

    def on_epoch_begin(self, net, **kwargs):
        """Run the hooks at the beginning of an epoch."""
        if self.adapter is not None:
            self.adapter.begin_epoch()

    def on_epoch_end(self, net, **kwargs):
        """Run the hooks at the end of an epoch."""
        if self.adapter is not None:
            self.adapter.end_epoch(net)

    def __reduce__(self):
        return EpochHooks, ()
