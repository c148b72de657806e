"""The skorch net of the estimators: scales images on the device, mixes precisions."""

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import torch
from skorch import NeuralNet, NeuralNetClassifier
from skorch.callbacks import Callback
from skorch.utils import to_device
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from sknoisy.training.interruption import is_raised_by_code
from sknoisy.training.ranks import ALONE
from sknoisy.training.user_callbacks import DEFAULTS, OWN, call_hook
from sknoisy.training.whole_batch_norm import WholeBatchNorm

AMP_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def as_inputs(X: Tensor, device) -> Tensor:
    """Return a batch on the device; uint8 images become float32 in [0, 1] there."""
    X = to_device(X, device)
    return X.float().div_(255) if X.dtype == torch.uint8 else X


def hears(callback: Callback, method_name: str) -> bool:
    """Return whether a callback does anything when a hook is called."""
    hook = getattr(callback, method_name)
    return getattr(hook, "__func__", None) is not getattr(Callback, method_name)


def resolve_device(device) -> torch.device:
    """Return the torch device that 'auto' or a name means, if this machine has it."""
    has = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if isinstance(device, str) and device == "auto":
        return torch.device(next((name for name, is_there in has.items() if is_there()), "cpu"))
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"device must be 'auto', 'cpu', 'cuda', 'mps' or alike, got {device!r}."
        ) from error
    if found.type in has and not has[found.type]():
        raise ValueError(f"device must be on this machine, got {device!r}; pass 'auto' or 'cpu'.")
    return found


def find_augmentation(net: NeuralNet) -> Callable[[Tensor], Tensor] | None:
    """Return what augments the net's training batches, or None."""
    callback = dict(net.callbacks_).get("sknoisy_augment")
    return None if callback is None else callback.transform


def as_training_inputs(net: NeuralNet, X: Tensor) -> Tensor:
    """Return a batch as the network sees it in training: on the device, and augmented."""
    X = as_inputs(X, net.device)
    augmentation = find_augmentation(net)
    if augmentation is None:
        return X
    moved = augmentation(X)
    is_batch = isinstance(moved, Tensor) and moved.ndim == X.ndim and len(moved) == len(X)
    if not is_batch or moved.dtype != X.dtype or moved.device != X.device:
        got = type(moved).__name__
        if isinstance(moved, Tensor):
            got = f"{moved.dtype} of shape {tuple(moved.shape)} on {moved.device}"
        raise ValueError(
            f"augment must return a batch like the one it gets, {X.dtype} of shape"
            f" {tuple(X.shape)} on {X.device}, got {got}."
        )
    return moved


class InnerNet(NeuralNetClassifier):
    """skorch net whose passes run in the precision of `amp`; its outputs are float32.

    Parameters
    ----------
    amp : False, 'bf16' or 'fp16', default=False
        Whether the module's passes run under autocast. With 'fp16' the gradients that flow back
        into the module are scaled up, so that small ones survive, and the optimizer undoes it.
    checkpoint : Checkpoint or None, default=None
        Where an interrupted fit resumes; one of the callbacks.
    seed : int or None, default=None
        Of the order of batches, and of what a method draws beside it. They have a generator of
        their own: torch's, by which networks draw, moves on differently with each network.
    ranks : Ranks or Alone, default=ALONE
        The processes that share the fit.
    is_auxiliary : bool, default=False
        Whether it serves another net's fit: nothing reads its soft labels after training.
    """

    def __init__(
        self,
        *args,
        amp=False,
        checkpoint=None,
        seed=None,
        ranks=ALONE,
        is_auxiliary=False,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.amp = amp
        self.checkpoint = checkpoint
        self.seed = seed
        self.ranks = ranks
        self.is_auxiliary = is_auxiliary
        self.interrupted_ = False
        device = torch.device(self.device).type
        self.scaler = torch.amp.GradScaler(device) if amp == "fp16" else None

    def autocast(self):
        """Return the context that the module's passes run in."""
        if not self.amp:
            return nullcontext()
        device = torch.device(self.device).type
        return torch.autocast(device, AMP_TYPES[self.amp])

    def batch_norm(self):
        """Return the context in which BatchNorm normalizes: in training by this process's part."""
        is_shared = self.ranks.is_exact and self.module_.training
        is_split = is_shared and self.ranks.is_split(self.n_rows_)
        return WholeBatchNorm(self.ranks) if is_split else nullcontext()

    @property
    def gradient_scale(self) -> float:
        """By how much gradients of the module's parameters are too large."""
        return 1.0 if self.scaler is None else self.scaler.get_scale()

    @property
    def label_callback(self):
        """The callback that writes the table of soft labels."""
        return dict(self.callbacks_)["sknoisy_labels"]

    def torch_compile(self, module, name):
        """Compile the module alone: a callback swaps the criterion's loss between phases."""
        return module if name == "criterion" else super().torch_compile(module, name)

    def check_data(self, X, y):
        """Check nothing: y are row numbers, no classes."""

    def on_train_begin(self, net, **kwargs):
        """Begin to draw the order of batches."""
        super().on_train_begin(net, **kwargs)
        self.rng_ = np.random.default_rng(self.seed)

    def on_train_end(self, net, **kwargs):
        """Draw no more."""
        super().on_train_end(net, **kwargs)
        del self.rng_
        vars(self).pop("sizes_", None)

    def on_batch_begin(self, net, **kwargs):
        """Note how many rows the whole batch has, and what this process's part weighs."""
        super().on_batch_begin(net, **kwargs)
        self.n_rows_ = next(self.sizes_)
        self.criterion_.share = self.ranks.share(self.n_rows_)

    def on_batch_end(self, net, training=False, **kwargs):
        """Record the size of the whole batch, by which losses are averaged."""
        super().on_batch_end(net, training=training, **kwargs)
        if self.ranks.size > 1:
            n_rows = self.n_rows_ + (self.label_callback.n_beside if training else 0)
            self.history.record_batch(f"{'train' if training else 'valid'}_batch_size", n_rows)

    def on_epoch_end(self, net, **kwargs):
        """Write the labels that other processes wrote, before any callback can stop training."""
        super().on_epoch_end(net, **kwargs)
        self.label_callback.share_written(self)

    def get_iterator(self, dataset, training=False):
        """Return the batches of a dataset, in training in the net's own order."""
        iterator = super().get_iterator(dataset, training=training)
        if training:
            iterator.draw_by(self.rng_)
        return iterator

    def notify(self, method_name, **cb_kwargs):
        """Call a hook of all callbacks; those of the user see class numbers for row numbers."""
        getattr(self, method_name)(self, **cb_kwargs)
        may_stop, stops = method_name == "on_epoch_end" and self.ranks.size > 1, False
        for name, callback in self.callbacks_:
            if not hears(callback, method_name):
                continue
            try:
                if name.startswith(OWN) or name in DEFAULTS:
                    getattr(callback, method_name)(self, **cb_kwargs)
                else:
                    call_hook(self, callback, name, method_name, cb_kwargs)
            except KeyboardInterrupt:
                if not may_stop:
                    raise
                stops = True  # once the other processes know
        if may_stop and self.ranks.any(stops):
            self.ranks.is_agreed = True
            raise KeyboardInterrupt

    def _set_training(self, training=True):
        # skorch sets the mode of every layer in every step. A compiled network wraps another.
        wrapped = getattr(self.module_, "_orig_mod", self.module_)
        if {m.training for m in (self.module_, wrapped, self.criterion_)} != {training}:
            super()._set_training(training)

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """Run an epoch over this process's parts of the batches."""
        if iterator is not None:
            iterator.batch_sampler.ranks = self.ranks
            self.sizes_ = iter(iterator.batch_sampler.sizes())
        super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)
        if training:
            self.average_statistics()

    @torch.no_grad()
    def average_statistics(self):
        """Give all processes the same buffers: of BatchNorm's statistics the mean."""
        if self.ranks.size == 1:
            return
        normed = [m for m in self.module_.modules() if isinstance(m, _BatchNorm)]
        statistics = [b for m in normed for b in (m.running_mean, m.running_var) if b is not None]
        self.ranks.sum_(statistics)
        for tensor in statistics:
            tensor.div_(self.ranks.size)
        done = {id(tensor) for tensor in statistics}
        for buffer in self.module_.buffers():
            if id(buffer) not in done:
                buffer.copy_(self.ranks.gather(0, buffer))

    def validation_step(self, batch, **fit_params):
        """Score a whole batch of held-out rows, of which each process passes its part."""
        if self.ranks.size == 1:
            return super().validation_step(batch, **fit_params)
        self._set_training(False)
        with torch.no_grad():
            y_pred = self.ranks.gather(self.n_rows_, self.infer(batch[0], **fit_params))
            batch[1] = self.ranks.gather(self.n_rows_, batch[1])
            loss = self.get_loss(y_pred, batch[1], X=batch[0], training=False)
        return {"loss": loss, "y_pred": y_pred}

    def share_gradients(self, step):
        """Replace gradients and loss by those of the whole batch."""
        parameters = [p for _, p in self.get_all_learnable_params() if p.requires_grad]
        loss = step["loss"].detach().reshape(1).clone()
        is_used = loss.new_tensor([p.grad is not None for p in parameters])
        for p in parameters:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        self.ranks.sum_([loss, is_used, *(p.grad for p in parameters)])
        for p, n_processes in zip(parameters, is_used.tolist(), strict=True):
            p.grad = p.grad if n_processes else None
        step["loss"] = loss[0]

    def fit_loop(self, X, y=None, epochs=None, **kwargs):
        """Train; note an interruption by Ctrl-C, which skorch passes over in silence."""
        if self.checkpoint is not None and self.checkpoint.epochs_done:
            epochs = self.max_epochs - self.checkpoint.epochs_done
        if self.ranks.size > 1:
            self.ranks.is_agreed = False  # the nets of a fit end one after the other
        try:
            return super().fit_loop(X, y, epochs, **kwargs)
        except KeyboardInterrupt as error:
            if self.ranks.size > 1 and not self.ranks.is_agreed:  # the others go on training
                raise InterruptedError("Ctrl-C") from error
            self.interrupted_ = not is_raised_by_code(error)
            if self.history and "train_loss" not in self.history[-1]:
                del self.history[-1]  # an epoch that did not end
            raise

    def get_split_datasets(self, X, y=None, **kwargs):
        """Return the rows to train on and those held out; resume from the checkpoint, if any."""
        split = super().get_split_datasets(X, y, **kwargs)
        self.ranks.seed_own(self.seed)
        if self.checkpoint is not None:
            self.checkpoint.restore(self, *split)
        return split

    def infer(self, x, **fit_params):
        """Return the module's logits, float32, for a batch."""
        with self.autocast(), self.batch_norm():
            logits = super().infer(as_inputs(x, self.device), **fit_params)
        if not self.amp:
            return logits
        logits = logits.float()
        if self.scaler is not None and logits.requires_grad:
            logits.register_hook(self.scaler.scale)
        return logits

    def train_step_single(self, batch, **fit_params):
        """Return loss and prediction of a batch; leave gradients of the right size."""
        step = super().train_step_single(batch, **fit_params)
        if self.ranks.size > 1:
            self.share_gradients(step)
        if self.scaler is not None:  # before callbacks clip them
            self.scaler.unscale_(self.optimizer_)
        return step

    def _step_optimizer(self, step_fn):
        if self.scaler is None or step_fn is None:
            super()._step_optimizer(step_fn)
            return
        step_fn()
        self.scaler.step(self.optimizer_)
        self.scaler.update()


class Augment(Callback):
    """Augment each training batch, before callbacks that mix it or add rows.

    Parameters
    ----------
    transform : callable
        Takes and returns a batch, images as float32 of shape (B, channels, height, width).
    """

    def __init__(self, transform):
        self.transform = transform

    def on_batch_begin(self, net, batch, training=False, **kwargs):
        """Replace the batch's inputs."""
        if training:
            batch[0] = as_training_inputs(net, batch[0])
