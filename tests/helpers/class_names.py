"""Class names that hold the separators of metric names."""

from __future__ import annotations

CLASSES = ["melanoma", "seborrheic_keratosis", "nevus", "a:b", "a+b"]
