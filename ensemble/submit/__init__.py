"""Submission files for competitions, written from predictions and validated first."""
