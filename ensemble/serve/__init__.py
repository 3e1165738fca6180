"""HTTP service, with a web page, for a run or an export. torch is imported for a run, never for an export."""
