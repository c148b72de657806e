"""Fitted classifiers as files that other runtimes execute."""

from sknoisy.export.onnx_file import to_onnx

__all__ = ["to_onnx"]
