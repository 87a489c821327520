"""Haxby et al. (2001)."""

from phosphene.data.haxby.dataset import Haxby

__all__ = ["Haxby"]
