"""TODO ensemble.inference"""
