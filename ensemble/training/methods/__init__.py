"""Registered training methods: augmentation, mixing, losses, optimizers, samplers, schedules, weight averages."""
