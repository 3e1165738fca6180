"""Ensembles of runs: member selection, weighting, cross-fitted evaluation. Numpy only."""
