"""Links carry bytes as they are, as slowly as their network says, and can be cut and mended."""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fednano.runtime.deployment.nodes.proxy import Lane, Proxy
from fednano.volatility.network import Network

FAST = Network(name="fast", up_mbit_s=1e6, down_mbit_s=1e6, latency_s=0.0)
THIN = Network(name="thin", up_mbit_s=[1.0, 8.0], down_mbit_s=[2.0, 16.0], latency_s=[0.5, 0.25])
TIMEOUT_S = 20.0


@contextmanager
def echo() -> Iterator[int]:
    """A server that sends back what came once there is no more of it; its port."""

    def answer(connection: socket.socket) -> None:
        with connection:
            connection.settimeout(TIMEOUT_S)
            with suppress(OSError):  # of a connection that was reset
                connection.sendall(read(connection))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            Thread(target=answer, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), TIMEOUT_S)


def read(connection: socket.socket) -> bytes:
    data = b""
    while more := connection.recv(65_536):
        data += more
    return data


def echoed(port: int, data: bytes) -> bytes:
    with connect(port) as connection:
        sender = Thread(target=lambda: (connection.sendall(data), connection.shutdown(socket.SHUT_WR)))
        sender.start()
        answer = read(connection)
        sender.join()
    return answer


@pytest.fixture(scope="module")
def fast() -> Iterator[int]:
    with echo() as port, closing(Proxy(targets=[("127.0.0.1", port)], network=FAST, index=0, seed=0)) as proxy:
        yield proxy.ports[0]


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=300), st.integers(1, 2000))
def test_bytes_arrive_unchanged(fast: int, some: bytes, times: int) -> None:
    assert echoed(fast, some * times) == some * times


def test_connections_share_a_link_without_mixing(fast: int) -> None:
    with connect(fast) as one, connect(fast) as two:
        for connection, data in ((one, b"a" * 100_000), (two, b"b" * 100_000)):
            connection.sendall(data)
        for connection in (two, one):
            connection.shutdown(socket.SHUT_WR)
        assert read(one) == b"a" * 100_000
        assert read(two) == b"b" * 100_000


def test_a_link_leads_to_several_servers() -> None:
    with echo() as first, echo() as second:
        targets = [("127.0.0.1", first), ("127.0.0.1", second)]
        with closing(Proxy(targets=targets, network=FAST, index=0, seed=0)) as proxy:
            assert len(set(proxy.ports)) == 2
            assert [echoed(port, b"x") for port in proxy.ports] == [b"x", b"x"]


def test_a_cut_resets_connections_and_refuses_new_ones_until_it_is_mended() -> None:
    with echo() as port, closing(Proxy(targets=[("127.0.0.1", port)], network=FAST, index=0, seed=0)) as proxy:
        (near,) = proxy.ports
        assert echoed(near, b"before") == b"before"
        with connect(near) as connection:
            connection.sendall(b"half")
            proxy.cut()
            with pytest.raises(ConnectionResetError):
                read(connection)
        with pytest.raises(ConnectionRefusedError):
            connect(near)
        proxy.cut()
        proxy.mend()
        assert proxy.ports == [near]
        assert echoed(near, b"after") == b"after"


def test_a_server_that_is_away_resets_the_connection() -> None:
    with echo() as port:
        pass
    with (
        closing(Proxy(targets=[("127.0.0.1", port)], network=FAST, index=0, seed=0)) as proxy,
        pytest.raises(ConnectionResetError),  # the reset may come before `connect` returns
        connect(proxy.ports[0]) as connection,
    ):
        connection.recv(1)


def test_a_link_that_is_closed_is_refused_and_closes_again() -> None:
    proxy = Proxy(targets=[("127.0.0.1", 9)], network=FAST, index=0, seed=0)
    proxy.close()
    proxy.close()
    with pytest.raises(ConnectionRefusedError):
        connect(proxy.ports[0])


class Slept:
    """A clock that moves as far as one wants to sleep, and at once."""

    def __init__(self) -> None:
        self.t = 0.0

    def now(self) -> float:
        return self.t

    async def sleep(self, seconds: float) -> None:
        self.t += seconds


@pytest.mark.parametrize(("index", "seconds"), [(0, 1.0 + 0.5 + 0.5 + 0.5), (1, 0.125 + 0.25 + 0.0625 + 0.25)])
def test_a_transfer_takes_no_less_than_the_network_says(index: int, seconds: float) -> None:
    clock = Slept()
    with (
        echo() as port,
        closing(
            Proxy(targets=[("127.0.0.1", port)], network=THIN, index=index, seed=0, now=clock.now, sleep=clock.sleep)
        ) as proxy,
    ):
        assert len(echoed(proxy.ports[0], bytes(125_000))) == 125_000
    # This clock moves for one sleeper after the other, so that it may show more than both together take.
    assert clock.t >= seconds - 1e-9


def test_a_lane_is_shared_and_can_be_slowed() -> None:
    lane = Lane(bit_s=8e6, latency_s=0.1, late_s=lambda n: 0.0)
    assert lane.leaves(0.0, 1_000_000) == 1.0
    assert lane.leaves(0.5, 1_000_000) == 2.0  # behind the one before
    assert lane.leaves(5.0, 1_000_000) == 6.0
    lane.share = 0.25
    assert lane.leaves(6.0, 1_000_000) == 10.0


def test_transfers_are_late_by_draws_that_are_named() -> None:
    flaky = Network(name="flaky", up_mbit_s=1.0, down_mbit_s=1.0, latency_s=0.0, jitter_s=0.5)
    lanes = [
        Lane(bit_s=1e6, latency_s=0.0, late_s=lambda n, seed=seed: flaky.late_s(3, seed, "up", n)) for seed in (0, 0, 1)
    ]  # type: ignore[misc]
    drawn = [[lane.next_late_s() for _ in range(200)] for lane in lanes]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 200 and 0.35 < sum(drawn[0]) / 200 < 0.65
