"""TODO ensemble.training.engine"""
