"""Errors, files, names, registries, predictions and listeners: what every other package imports."""
