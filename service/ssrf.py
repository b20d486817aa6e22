"""Which addresses this server goes to because a client named them: public ones, and never one of its own network.

A video's image is a URL of a client's, and so is the address to which its end is reported. Names are resolved, and
refused if any of their addresses is not public; the connection goes to exactly the addresses that were checked. They
are checked again for each connection.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from service.runway import addresses
from service.runway.addresses import Address, Resolve

HTTPS_PORT = 443
LONGEST_URL = 4_000  # characters; signed URLs are long
NUMBER = re.compile(r"\d+|0[xX][0-9a-fA-F]*")  # a host whose last label is one is an IP address (WHATWG URL)
LABEL = re.compile(r"\w(?:[\w-]{0,61}\w)?")
UNSAFE = re.compile(r"[\s\x00-\x1f\x7f\\]")

# `is_global` of Python 3.11 takes these for public: multicast, relays of 6to4, Azure's own services.
NOT_PUBLIC_V4 = tuple(map(IPv4Network, (
    "0.0.0.0/8", "100.64.0.0/10", "168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15",
    "224.0.0.0/3",
)))  # fmt: skip
# All public IPv6 is here; what else there is either stays inside a network or has an IPv4 address inside.
PUBLIC_V6 = IPv6Network("2000::/3")
# Teredo, 6to4 and the like carry an IPv4 address; the others are for documents.
NOT_PUBLIC_V6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "3ffe::/16")))
# A name server of a stranger may answer after half a minute, or never. Runway, the database and all else are looked up
# in the loop's own threads, of which there are few: they wait for none of these.
LOOK_UPS = ThreadPoolExecutor(50, thread_name_prefix="look-up")


def is_public(address: str) -> bool:
    """Whether this IP address is on the open internet."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv4Address):
        return found.is_global and not any(found in network for network in NOT_PUBLIC_V4)
    assert isinstance(found, IPv6Address)  # noqa: S101  # there is no third kind
    return found in PUBLIC_V6 and found.is_global and not any(found in network for network in NOT_PUBLIC_V6)


def complaint(url: str, private_hosts: Collection[str] = (), *, any_port: bool = False) -> str | None:
    """What speaks against going to this URL, before its name is resolved, or None.

    `private_hosts`: hosts that may be anywhere, over http as well, on any port. `any_port`: of a public one, too.
    """
    if len(url) > LONGEST_URL or UNSAFE.search(url):
        return "is too long, or has blanks in it"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "is not a URL"
    if parts.username is not None or parts.password is not None:
        return "has a user in it"
    if parts.scheme in ("http", "https") and port != 0 and plain(host) in private_hosts:
        return None
    if parts.scheme != "https":
        return "is not https"
    if port not in (None, HTTPS_PORT) and not (any_port and port):
        return "has a port of its own"
    labels = unicodedata.normalize("NFKC", host).removesuffix(".").split(".")
    if ":" in host or len(labels) < 2 or NUMBER.fullmatch(labels[-1]) or not all(map(LABEL.fullmatch, labels)):
        return "names no public domain"
    return None


def plain(host: str) -> str:
    """A host as it is compared: in lower case, without the brackets of IPv6 and the dot of the root."""
    return host.lower().strip("[]").removesuffix(".")


async def public_addresses(host: str, port: int) -> list[Address]:
    """The addresses of `host`, to connect to just these. Raises OSError if any of them is not public."""
    found = await addresses.of_host(host, port, LOOK_UPS)
    if not found or not all(is_public(where[0]) for _, where in found):
        raise OSError(f"{host} has an address that is not public")
    return found


def resolving(private_hosts: Collection[str]) -> Resolve:
    """What gives the addresses to connect to: of these hosts any, of others only public ones."""

    async def resolve(host: str, port: int) -> list[Address]:
        return await (addresses.of_host if plain(host) in private_hosts else public_addresses)(host, port)

    return resolve
