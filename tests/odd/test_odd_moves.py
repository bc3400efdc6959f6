"""The laws of odd nets on those of odd_moves.py."""

import odd_moves
from odd_laws import Laws, cases_of


class TestMoves(Laws):
    cases = cases_of(odd_moves)
