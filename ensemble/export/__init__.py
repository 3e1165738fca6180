"""Export of a run as a folder that predicts without this package: an ONNX graph, a script, a model card."""
