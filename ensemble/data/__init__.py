"""Images, labels, ids, splits and groups: listing, checks and fingerprints, without torch."""
