"""A bucket of requests for each client, filled at a steady rate."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from middleware.authentication import Identity
from middleware.rate_limit import RateLimit, client
from tests.middleware.wsgi import call, environ, hello


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def limit(clock: Clock, rate: float = 2, burst: int = 3, **settings: Any) -> RateLimit:
    return RateLimit(hello, rate=rate, burst=burst, clock=clock, **settings)


def statuses(app: RateLimit, times: int, **more: Any) -> list[int]:
    return [call(app, **more).status for _ in range(times)]


def test_a_burst_goes_through_and_no_more(clock: Clock) -> None:
    assert statuses(limit(clock), 5) == [200, 200, 200, 429, 429]


def test_the_bucket_fills_at_its_rate(clock: Clock) -> None:
    app = limit(clock)
    statuses(app, 9)
    clock.now += 0.5
    assert statuses(app, 2) == [200, 429]
    clock.now += 1.25
    assert statuses(app, 3) == [200, 200, 429]


def test_it_holds_no_more_than_the_burst(clock: Clock) -> None:
    app = limit(clock)
    statuses(app, 9)
    clock.now += 1_000_000
    assert statuses(app, 5) == [200, 200, 200, 429, 429]


def test_being_refused_costs_nothing(clock: Clock) -> None:
    app = limit(clock)
    statuses(app, 1000)
    clock.now += 0.5
    assert statuses(app, 1) == [200]


def test_a_steady_client_within_the_rate_is_never_refused(clock: Clock) -> None:
    app = limit(clock, rate=3, burst=1)
    for _ in range(10_000):
        assert app._take("a") == 0
        clock.now += 1 / 3


@pytest.mark.parametrize(("rate", "seconds"), [(2, "1"), (0.1, "10"), (0.3, "4")])
def test_who_is_refused_learns_when_to_come_again(clock: Clock, rate: float, seconds: str) -> None:
    app = limit(clock, rate=rate, burst=1)
    statuses(app, 1)
    answer = call(app)
    assert (answer.status, answer.headers["Retry-After"]) == (429, seconds)
    clock.now += int(seconds)
    assert statuses(app, 1) == [200]


def test_clients_do_not_share_a_bucket(clock: Clock) -> None:
    app = limit(clock, burst=1)
    for address in ("192.0.2.1", "192.0.2.2"):
        assert statuses(app, 2, REMOTE_ADDR=address) == [200, 429]


def test_a_key_of_ones_own(clock: Clock) -> None:
    app = limit(clock, burst=1, key=lambda environ: environ["HTTP_HOST"])
    assert statuses(app, 1, HTTP_HOST="a") + statuses(app, 2, HTTP_HOST="b") == [200, 200, 429]


def test_exempt_paths_are_not_counted(clock: Clock) -> None:
    app = limit(clock, exempt=("/health/",))
    assert {call(app, path="/health/live").status for _ in range(9)} == {200}
    assert statuses(app, 4) == [200, 200, 200, 429]


def test_the_number_of_clients_is_bounded(clock: Clock) -> None:
    app = limit(clock, clients=100)
    for number in range(10_000):
        app._take(str(number))
    assert len(app._full_at) == 100


def test_full_buckets_are_forgotten(clock: Clock) -> None:
    app = limit(clock)
    for number in range(100):
        app._take(str(number))
    clock.now += 1000
    for _ in range(50):
        app._take("here")
    assert list(app._full_at) == ["here"]


def test_who_is_forgotten_is_who_was_silent_longest(clock: Clock) -> None:
    app = limit(clock, burst=1, clients=2)
    assert [app._take(key) == 0 for key in "ababca"] == [True, True, False, False, True, True]


def test_many_threads_get_no_more_than_one(clock: Clock) -> None:
    app = limit(clock, burst=100)
    app.clock = lambda: clock.now if app._lock.locked() else pytest.fail("threads may meet here")
    with ThreadPoolExecutor(8) as pool:
        waits = list(pool.map(lambda _: app._take("a"), range(2000)))
    assert waits.count(0) == 100


@pytest.mark.parametrize("name", ["rate", "burst", "clients"])
def test_a_limit_of_nothing_is_refused(name: str) -> None:
    settings: dict[str, Any] = {"rate": 1, "burst": 1, name: 0}
    with pytest.raises(ValueError, match=name):
        RateLimit(hello, **settings)


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:0db8:0001:0002"),
        ("2001:db8:1:2::9", "2001:0db8:0001:0002"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::nonsense::", "::nonsense::"),
        ("", ""),
    ],
)
def test_a_client_is_its_address_or_its_network(address: str, key: str) -> None:
    assert client(environ(REMOTE_ADDR=address)) == key


def test_a_known_user_is_one_client_wherever_they_are() -> None:
    named = {"middleware.identity": Identity("alice", "viewer", "proxy")}
    assert client(environ(REMOTE_ADDR="192.0.2.1", **named)) == "user alice"
    nobody = {"middleware.identity": Identity("anonymous", "viewer", "anonymous")}
    assert client(environ(REMOTE_ADDR="192.0.2.1", **nobody)) == "192.0.2.1"
