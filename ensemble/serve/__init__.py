"""A run or an export as an HTTP service with a page. torch is imported for a run, never for an export."""
