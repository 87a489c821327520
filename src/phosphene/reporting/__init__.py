"""One self-contained HTML page of what a study found.

``contents`` what the page says, read from artefacts · ``tables`` numbers arranged for people ·
``figures`` tables drawn as SVG · ``encoded`` maps of the encoding half · ``encoded_words`` what is
seen in them, and numbers by region · ``galleries`` which pictures are shown, and at which size ·
``pages`` the page itself.
"""

from phosphene.reporting.content import Content, gather, report_recipe
from phosphene.reporting.page import page, render, report
from phosphene.reporting.tables import headline

__all__ = ["Content", "gather", "headline", "page", "render", "report", "report_recipe"]
