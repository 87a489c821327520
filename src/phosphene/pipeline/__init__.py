"""Results on disk, and parts of work on one or many machines."""
