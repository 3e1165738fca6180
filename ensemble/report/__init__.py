"""Tables, figures and HTML reports from runs on disk; needs neither a network nor torch."""
