"""The report: what a study found, in one HTML page that needs nothing else."""

from phosphene.reporting.content import Content
from phosphene.reporting.page import render
from phosphene.reporting.tables import headline

__all__ = ["Content", "headline", "render"]
