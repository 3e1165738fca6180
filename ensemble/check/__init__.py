"""What is odd about a data set, found before any training: counts, copies, leaks, labels that look wrong."""
