"""TODO ensemble.distill"""
