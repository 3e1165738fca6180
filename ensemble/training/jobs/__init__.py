"""TODO ensemble.training.jobs"""
