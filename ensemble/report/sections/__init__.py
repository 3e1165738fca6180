"""Sections of `ens report`: each module computes the values that one part of the page shows."""
