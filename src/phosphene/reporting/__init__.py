"""The report: what a study found, in one HTML page that needs nothing else."""
