"""What is told to a tracker beside the run on disk; a tracker never changes a result, nor loses one."""
