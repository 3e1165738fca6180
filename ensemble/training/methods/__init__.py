"""TODO ensemble.training.methods"""
