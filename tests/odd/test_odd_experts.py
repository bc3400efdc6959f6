"""The laws of odd nets on those of odd_experts.py."""

import odd_experts
from odd_laws import Laws, cases_of


class TestExperts(Laws):
    cases = cases_of(odd_experts)
