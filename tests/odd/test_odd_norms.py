"""The laws of odd nets on those of odd_norms.py."""

import odd_norms
from odd_laws import Laws, cases_of


class TestNorms(Laws):
    cases = cases_of(odd_norms)
