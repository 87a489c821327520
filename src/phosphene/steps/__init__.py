"""Every stage of a study: the only code that joins a `Study` and the science."""
