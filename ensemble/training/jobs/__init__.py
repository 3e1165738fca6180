"""Training jobs: planning, time estimates, speed probes, training one or several members, and their records."""
