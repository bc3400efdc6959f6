"""How labels pass through each op: one file per family, found by import, registered by op name.

A rule is `rule(tracer, call)`: it reads the labels of `call.args`, says what must be equal or must stay, and sets the
labels of `call.outputs`. An op without a rule freezes whatever touches it.
"""

from importlib import import_module
from pkgutil import iter_modules

from .base import FUNCTIONS, RULES, STATED, Call, lookup

for _module in sorted(m.name for m in iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")

from .numbers import follow  # noqa: E402  it asks what rules there are

__all__ = ["FUNCTIONS", "RULES", "STATED", "Call", "follow", "lookup"]
