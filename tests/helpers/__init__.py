"""What several test files use: made runs, images, listeners, processes."""
