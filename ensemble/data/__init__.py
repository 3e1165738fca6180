"""Images, labels, ids, splits and groups, listed, checked and fingerprinted without a network library."""
