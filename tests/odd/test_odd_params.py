"""The laws of odd nets on those of odd_params.py."""

import odd_params
from odd_laws import Laws, cases_of


class TestParams(Laws):
    cases = cases_of(odd_params)
