"""Export of a run as a folder that predicts without this package: an ONNX graph, a script, a model card."""

OUTPUTS = ("probabilities", "members")
"""The outputs of an ONNX graph: float32 (n, k), and float32 (n, u, k) of the u members that contribute."""
