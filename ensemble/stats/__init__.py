"""Confidence intervals of scores, and paired significance tests of two predictions."""
