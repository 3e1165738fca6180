"""Training loop: data loaders, learner, stages, checkpoints, learning-rate finder, device and numeric format."""
