"""Runs on disk: one directory is one trained member or one ensemble, and both are read by the same code."""
