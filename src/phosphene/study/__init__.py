"""What to compute (`Study`) and how to compute it (`Compute`)."""

from phosphene.study.compute import Compute
from phosphene.study.loading import parse_set
from phosphene.study.settings import Data, Model, Rate, Simulate, Study

__all__ = ["Compute", "Data", "Model", "Rate", "Simulate", "Study", "parse_set"]
