"""Looking inside: dumps of every stage of the compiler, and checks for tests."""

from layerflow.inspect import debug
from layerflow.inspect.dump import STAGES, dump

__all__ = ["STAGES", "debug", "dump"]
