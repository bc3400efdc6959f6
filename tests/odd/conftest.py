"""Runs the laws on the cases that a test class names, and marks what does not hold yet."""

import pytest

pytest.register_assert_rewrite("odd_laws", "odd_case")


def pytest_generate_tests(metafunc):
    if metafunc.cls is not None and "name" in metafunc.fixturenames:
        metafunc.parametrize("name", metafunc.cls.cases)


def pytest_collection_modifyitems(items):
    """Strict: a test that starts to hold must leave the list."""
    from odd_yet import NOT_YET

    for item in items:
        callspec = getattr(item, "callspec", None)
        reason = NOT_YET.get((item.originalname, callspec.id if callspec else ""))
        if reason is not None and item.path.name.startswith("test_odd_"):
            item.add_marker(pytest.mark.xfail(strict=True, reason=f"engine: {reason}"))
