"""Trial lists: which pictures a rater sees, in which order."""
