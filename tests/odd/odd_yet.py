"""Tests that do not hold yet: what is seen -> test -> parameters. Held strictly by conftest.py."""

SEEN: dict[str, dict[str, list[str]]] = {
    "a recurrent layer with a projection: what it reads could be cut": {
        "test_a_budget_is_met": ["Projected"],
        "test_a_cut_model_is_smaller_trains_and_takes_another_batch": ["Projected"],
        "test_what_can_be_cut_is_found": ["Projected"],
    },
    (
        "BadModel: group 'up' is written by '', whose weight is computed from others; use a criterion that do"
        "es not look at weights, or frozen='up'"
    ): {
        "test_a_budget_is_met": ["BatchedExperts"],
    },
    "attributes behind a computed bound are pinned: narrow's start + length, and -size": {
        "test_what_can_be_cut_is_found": ["CountedFromTheEnd", "Narrowed"],
    },
    "one group of a single unit, `parts`, where c // parts = 4 units could go": {
        "test_what_can_be_cut_is_found": ["ChannelShuffled"],
    },
}
NOT_YET = {(t, p): seen for seen, tests in SEEN.items() for t, names in tests.items() for p in names}
