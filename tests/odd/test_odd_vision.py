"""The laws of odd nets on those of odd_vision.py."""

import odd_vision
from odd_laws import Laws, cases_of


class TestVision(Laws):
    cases = cases_of(odd_vision)
