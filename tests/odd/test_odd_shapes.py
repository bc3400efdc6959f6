"""The laws of odd nets on those of odd_shapes.py."""

import odd_shapes
from odd_laws import Laws, cases_of


class TestShapes(Laws):
    cases = cases_of(odd_shapes)
