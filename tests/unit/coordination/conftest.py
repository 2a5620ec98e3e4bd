"""Fixtures of the tests of Redis; each module has a `server` of its own."""

import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest

from fednano.coordination.embedded import EmbeddedRedis
from fednano.coordination.redis_link import Link


@pytest.fixture
def run() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def link(server: EmbeddedRedis, run: str) -> Iterator[Link]:
    with closing(Link(server.address, run)) as link:
        yield link
