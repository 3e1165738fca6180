"""The most accurate and most honest prediction out of several fine-tuned vision models."""

__version__ = "0.1.0"
