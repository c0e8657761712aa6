"""Which hosts webhooks may reach, in every spelling and every disguise."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from backoffice.config import addresses
from backoffice.config.addresses import HostRefused, Hosts

INSIDE = tuple(
    (
        "127.0.0.1 127.255.255.254 0.0.0.0 10.1.2.3 172.16.0.1 192.168.1.1"
        " 169.254.169.254 100.64.0.1 192.0.0.170 192.0.2.1 198.18.0.1 192.88.99.1"
        " 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255 :: ::1 fe80::1 fe80::1%lo"
        " fc00::1 fd12::1 fec0::1 ff02::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1"
        " ::ffff:169.254.169.254 ::127.0.0.1 64:ff9b::127.0.0.1 64:ff9b::a9fe:a9fe"
        " 64:ff9b:1::8.8.8.8 2002:7f00:1::1 2002:808:808::1 2001:0:7f00:1::1"
        " 2001:db8::1 3fff::1 100::1 5f00::1 2606:4700::5efe:127.0.0.1"
        " 2606:4700::200:5efe:10.0.0.1"
    ).split()
)
OUTSIDE = ("8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8")


@pytest.mark.parametrize("address", INSIDE)
def test_what_is_not_the_internet_is_not_public(address: str) -> None:
    assert not addresses.parse("public").permit("hooks.example.org", address)


@pytest.mark.parametrize("address", OUTSIDE)
def test_the_internet_is_public(address: str) -> None:
    assert addresses.parse("public").permit("hooks.example.org", address)
    assert not addresses.parse("").permit("hooks.example.org", address)


@pytest.mark.parametrize(
    ("hosts", "name", "address", "may"),
    [
        ("hooks.example.org", "hooks.example.org", "10.0.0.1", True),
        ("hooks.example.org", "hooks.example.org", "8.8.8.8", True),
        ("hooks.example.org", "xhooks.example.org", "8.8.8.8", False),
        ("hooks.example.org", "hooks.example.org.evil.example", "8.8.8.8", False),
        ("*.example.org", "a.b.example.org", "fd12::1", True),
        ("*.example.org", "example.org", "8.8.8.8", False),
        ("*.example.org", "evilexample.org", "8.8.8.8", False),
        ("*.example.org", "a.example.org", "127.0.0.1", False),
        ("*.example.org", "a.example.org", "169.254.169.254", False),
        ("*.example.org 127.0.0.1", "a.example.org", "127.0.0.1", True),
        ("10.1.0.0/16", "anything", "10.1.2.3", True),
        ("10.1.0.0/16", "anything", "::ffff:10.1.2.3", True),
        ("10.1.0.0/16", "anything", "10.2.2.3", False),
        ("fd12::/16", "anything", "fd12::5", True),
        ("public 10.1.2.3", "anything", "8.8.8.8", True),
    ],
)
def test_the_list_says_what_may_be_reached(hosts: str, name: str, address: str, may: bool) -> None:
    assert addresses.parse(hosts).permit(name, address) is may


@pytest.mark.parametrize("address", [*INSIDE, *OUTSIDE])
def test_an_admins_own_url_may_lead_anywhere(address: str) -> None:
    assert addresses.ANYWHERE.permit("chat", address)


def test_a_list_is_told_as_it_was_written() -> None:
    assert str(addresses.parse("Hooks.example.org, public 10.0.0.0/8")) == (
        "public hooks.example.org 10.0.0.0/8"
    )
    assert str(addresses.parse("")) == "no host"


@pytest.mark.parametrize(
    "spelling",
    ["2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "127.0.0.1", "::1", "localhost"],
)
def test_a_spelling_is_judged_by_what_it_means(spelling: str) -> None:
    with pytest.raises(HostRefused):
        addresses.resolve(spelling, 80, addresses.parse("public"))


Resolver = Callable[[Sequence[str]], None]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """Lets every name have certain addresses; no other way leads to a hostile DNS."""

    def set_answer(found: Sequence[str]) -> None:
        rows: list[Any] = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 80)) for one in found]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: rows)

    return set_answer


def test_one_address_inside_among_others_is_enough_to_refuse(resolver: Resolver) -> None:
    resolver(["8.8.8.8", "127.0.0.1"])
    with pytest.raises(HostRefused) as caught:
        addresses.resolve("hooks.example.org", 80, Hosts(public=True))
    assert "127" not in str(caught.value)  # who asks learns nothing of our DNS


def test_all_addresses_of_a_name_are_given_once(resolver: Resolver) -> None:
    resolver(["8.8.8.8", "1.1.1.1", "8.8.8.8"])
    found = addresses.resolve("hooks.example.org", 80, Hosts(public=True))
    assert found == ["8.8.8.8", "1.1.1.1"]
