"""Prediction with trained networks: batches of images, test-time augmentation, Grad-CAM."""
