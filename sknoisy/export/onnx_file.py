"""A fitted classifier, or a Pipeline that ends in one, as an ONNX file."""

import re
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from torch import Tensor, nn

from sknoisy.base import NoisyLabelClassifier
from sknoisy.export.scalers import as_layer
from sknoisy.functional import at_least_float32
from sknoisy.networks.copying import copy_module
from sknoisy.prediction import temperature_of
from sknoisy.storage.atomic import write_whole
from sknoisy.training.features import unwrap
from sknoisy.training.net import as_inputs

# By the type of rows.
TENSOR_TYPES = {np.uint8: torch.uint8, np.float32: torch.float32, np.float64: torch.float64}


def to_onnx(estimator, path) -> None:
    """Write a fitted classifier to a file that onnxruntime and other runtimes execute.

    The file holds the preprocessing, the network and the temperature: what `predict_proba` does,
    in float32 whatever `amp` is. Its one input and two outputs have any number of rows:

    - ``X``, rows as `fit` got them: float32; uint8 for images of that type, which are scaled to
      [0, 1] inside; float64 for a Pipeline with scalers, and for tables that float32 would round,
      such as seconds since 1970;
    - ``label``, shape (n,), as `predict` returns them;
    - ``probabilities``, shape (n, n_classes), in the order of `classes_`.

    Parameters
    ----------
    estimator : classifier of this library, or Pipeline that ends in one
        Fitted. Before the classifier a Pipeline may have scikit-learn's StandardScaler,
        MinMaxScaler, MaxAbsScaler and RobustScaler.
    path : str or Path
        The file; replaced once the new one is whole.

    Raises
    ------
    ImportError
        If the packages onnx and onnxscript are missing.
    TypeError
        For another estimator, or a step or labels that have no form in the file.
    ValueError
        For a module with operators that ONNX lacks.
    """
    onnx = require_onnx()
    *steps, classifier = steps_of(estimator)
    if not isinstance(classifier, NoisyLabelClassifier):
        raise TypeError(
            "estimator must be a classifier of this library, or a Pipeline that ends in one, got"
            f" {type(classifier).__name__}; of a search pass best_estimator_."
        )
    prediction = Prediction(classifier, [as_layer(step) for step in steps]).eval()
    labels = onnx.numpy_helper.from_array(as_labels(classifier.classes_), "classes")
    model = export(prediction, prediction.example())
    name_labels(onnx, model.graph, labels)
    onnx.checker.check_model(model)
    try:
        write_whole(Path(path), model.SerializeToString())
    except OSError as error:
        raise type(error)(f"path must be a file to write, got {str(path)!r}: {error}") from error


def require_onnx():
    """Return the package onnx, if that and what torch needs to write its files are there."""
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise ImportError(
            'to_onnx needs the packages onnx and onnxscript: pip install "sknoisy[onnx]".'
        ) from error
    return onnx


def steps_of(estimator) -> list:
    """Return the steps of a Pipeline, those of pipelines in it included, or the estimator alone."""
    if isinstance(estimator, Pipeline):
        return [inner for _, step in estimator.steps for inner in steps_of(step)]
    return [] if estimator is None or estimator == "passthrough" else [estimator]


class Prediction(nn.Module):
    """From rows, as a user has them, to class numbers and probabilities.

    Parameters
    ----------
    classifier : NoisyLabelClassifier
        A fitted one.
    scalers : list of nn.Module
        What comes before it.
    """

    def __init__(self, classifier: NoisyLabelClassifier, scalers: list[nn.Module]):
        super().__init__()
        self.network = copy_module(unwrap(classifier.module_)).cpu()
        self.scalers = nn.Sequential(*scalers)
        self.temperature = temperature_of(classifier)
        self.row_format = classifier._row_format

    def forward(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Return the class numbers (B,) and the probabilities (B, C) of X (B, ...)."""
        if len(self.scalers):
            X = self.scalers(X).to(TENSOR_TYPES[self.row_format.dtype])
        if self.row_format.lacks_channel:
            X = X[:, None]
        logits = at_least_float32(self.network(as_inputs(X, X.device)))
        probabilities = (logits / self.temperature).softmax(dim=1)
        return probabilities.argmax(dim=1), probabilities

    def example(self) -> Tensor:
        """Return two rows of zeros, of the shape and type that `forward` expects."""
        shape = self.row_format.shape[1 if self.row_format.lacks_channel else 0 :]
        dtype = torch.float64 if len(self.scalers) else TENSOR_TYPES[self.row_format.dtype]
        return torch.zeros(2, *shape, dtype=dtype)


def as_labels(classes: np.ndarray) -> np.ndarray:
    """Return the classes in a type that ONNX has; TypeError if there is none."""
    plain = np.array(classes.tolist()) if classes.dtype == object else classes
    if plain.dtype.kind in "iu":
        return plain.astype(np.int64)
    if plain.dtype.kind == "U":
        return plain.astype(object)
    if plain.dtype.kind in "bf":
        return plain
    raise TypeError(
        f"classes_ must be integers, floats, booleans or strings to be exported, got"
        f" {classes.dtype}; fit on y.astype(str)."
    )


def export(module: nn.Module, batch: Tensor):
    """Return the ONNX model of a module for batches like this one, of any number of rows."""
    try:
        # The warnings tell of torch's own code, such as that of nn.LSTM.
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):
            program = torch.onnx.export(
                module,
                (batch,),
                input_names=["X"],
                output_names=["class_number", "probabilities"],
                dynamic_shapes=({0: torch.export.Dim("n")},),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # whatever the exporter raises
        raise ValueError(
            f"module must be one that torch.onnx.export converts, got {reason_of(error)}. Replace"
            " that part of it, or keep the classifier by save and predict in Python."
        ) from error
    model = program.model_proto
    rows = model.graph.input[0].type.tensor_type.shape.dim[0]
    if not rows.dim_param:
        raise ValueError(
            "module must have the same operators for any number of rows, got one whose operators"
            f" for {rows.dim_value} rows are its own; leave out of forward what branches on it."
        )
    return model


def reason_of(error: Exception) -> str:
    """Return what the exporter could not convert: an operator, or how its error begins."""
    while error.__cause__ is not None:
        error = error.__cause__
    operator = re.search(r"op='([\w.:]+)'", str(error))
    if operator:
        return f"the operator {operator[1]}, which ONNX lacks"
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def name_labels(onnx, graph, labels) -> None:
    """Replace the output of class numbers by one of the labels, a tensor (C,)."""
    numbers = graph.output.pop(0)
    graph.initializer.append(labels)
    inputs = [labels.name, numbers.name]
    graph.node.append(onnx.helper.make_node("Gather", inputs, ["label"], name="name_labels"))
    shape = [dim.dim_param for dim in numbers.type.tensor_type.shape.dim]
    graph.output.insert(0, onnx.helper.make_tensor_value_info("label", labels.data_type, shape))
