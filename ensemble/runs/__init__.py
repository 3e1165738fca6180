"""Run directories: each holds one trained member, import or ensemble, all read by the same code."""
