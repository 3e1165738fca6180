"""A run as a folder that predicts anywhere: an ONNX graph, a script, a model card. Above the waterline."""
