"""What outlives the process: checkpoints of fits, and files of fitted estimators."""
