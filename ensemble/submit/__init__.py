"""Predictions to a file that a competition accepts, checked before it is written."""
