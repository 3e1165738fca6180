"""TODO ensemble.stats"""
