"""The laws of odd nets on those of odd_recurrent.py."""

import odd_recurrent
from odd_laws import Laws, cases_of


class TestRecurrent(Laws):
    cases = cases_of(odd_recurrent)
