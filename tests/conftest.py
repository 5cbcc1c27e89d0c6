"""Fixtures for all tests."""

import signal

import pytest

import layerflow as lf


@pytest.fixture
def fresh_names():
    """Automatic layer names start at 1 again, as in a new program."""
    lf.reset_names()


@pytest.fixture(autouse=True)
def seeded():
    """Tests do not depend on the order they run in."""
    lf.random.set_seed(20)


@pytest.fixture
def interruptible():
    """Ctrl-C raises KeyboardInterrupt, also where a shell started the tests in its background and ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def pytest_addoption(parser):
    parser.addoption("--update-expected", action="store_true", help="write the golden dumps anew instead of comparing")
