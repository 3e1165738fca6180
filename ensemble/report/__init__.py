"""Tables and figures from runs on disk: no network, no torch."""
