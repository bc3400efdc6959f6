"""The laws of odd nets on those of odd_outputs.py."""

import odd_outputs
from odd_laws import Laws, cases_of


class TestOutputs(Laws):
    cases = cases_of(odd_outputs)
