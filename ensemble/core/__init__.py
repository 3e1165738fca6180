"""TODO ensemble.core"""
