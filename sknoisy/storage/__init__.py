"""Persistence: checkpoints of fits, and files of fitted estimators."""
