"""Which hosts webhooks may reach: protection against request forgery (SSRF).

Owns what ``[notify] hosts`` means, and how a name becomes addresses that were
looked at. A connection is made to such an address and never to a name, which
could mean another address by then (DNS rebinding).
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from backoffice.errors import BackofficeError

PUBLIC = "public"

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ip_network(word) for word in text.split())


_is_name = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*").fullmatch

# What Python's is_global takes for public in some versions.
_NOT_PUBLIC = _networks(
    "0.0.0.0/8 192.0.0.0/24 192.88.99.0/24 224.0.0.0/3 2001::/23 2001:db8::/32 2002::/16 3fff::/20"
)
_GLOBAL_UNICAST = ip_network("2000::/3")  # of IPv6, all that is public lies in it
_PRIVATE = _networks("10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 fc00::/7")
_NAT64 = ip_network("64:ff9b::/96")
_ISATAP = (0x00005EFE, 0x02005EFE)  # before an IPv4 address, in the lower 64 bits


class HostRefused(BackofficeError):
    """A host that may not be reached; the message never tells its address."""


@dataclass(frozen=True)
class Hosts:
    """What may be reached: any public address, names and patterns, networks.

    A name covers public and private addresses. Loopback, link-local and other
    special ones are covered by a network alone: a name's owner could point it there.
    """

    public: bool
    names: tuple[str, ...] = ()  # in lower case; "*.example.org" is all below example.org
    networks: tuple[Network, ...] = ()

    def permit(self, name: str, address: str) -> bool:
        """Whether ``address`` may be reached, as one of those of ``name``."""
        real = _real(ip_address(address))
        if any(real in network for network in self.networks):
            return True
        if is_public(real):
            return self.public or self._has(name)
        return self._has(name) and any(real in network for network in _PRIVATE)

    def __str__(self) -> str:
        words = [PUBLIC] if self.public else []
        return " ".join([*words, *self.names, *map(str, self.networks)]) or "no host"

    def _has(self, name: str) -> bool:
        return any(
            name.endswith(known[1:]) if known.startswith("*.") else name == known
            for known in self.names
        )


ANYWHERE = Hosts(public=True, networks=_networks("0.0.0.0/0 ::/0"))


def parse(text: str) -> Hosts:
    """The words of ``[notify] hosts``; raises ValueError that ends "… is not"."""
    words = text.lower().replace(",", " ").split()
    names: list[str] = []
    networks: list[Network] = []
    for word in words:
        try:
            networks.append(ip_network(word))
        except ValueError:
            if not _is_name(word) or word.replace(".", "").isdigit() or "/" in word:
                raise ValueError(
                    "a list of names, patterns such as *.example.org, addresses and networks"
                    f" such as 10.1.2.0/24; or {PUBLIC}"
                ) from None
            names += [word] if word != PUBLIC else []
    return Hosts(PUBLIC in words, tuple(names), tuple(networks))


def resolve(host: str, port: int, hosts: Hosts) -> Sequence[str]:
    """All addresses of a host, or HostRefused if one of them may not be reached.

    Any spelling of an address that the system understands (2130706433, 0x7f.1) is
    judged by what it means. Raises OSError or UnicodeError for a name not known.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
    name = host.lower().rstrip(".")
    if not all(hosts.permit(name, address) for address in addresses):
        raise HostRefused("its host is at an address that [notify] hosts does not allow")
    return addresses


def is_public(address: Address) -> bool:
    """Whether an address is one of the Internet's, and no way to others: 6to4, Teredo
    and ISATAP lead to IPv4 addresses of any kind."""
    if address.version == 6:
        tunnel = (int(address) >> 32) & 0xFFFFFFFF in _ISATAP
        if tunnel or address not in _GLOBAL_UNICAST:
            return False
    return address.is_global and not any(address in network for network in _NOT_PUBLIC)


def _real(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
