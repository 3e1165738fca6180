"""Knowledge distillation: an ensemble as the teacher of a single network, and its evaluation."""
