"""The Natural Scenes Dataset."""

from phosphene.data.nsd.dataset import NSD

__all__ = ["NSD"]
