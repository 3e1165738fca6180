"""Data set checks before training: class counts, odd files, duplicates, leaks between splits, label errors."""
