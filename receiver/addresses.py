"""Where we may connect: which IP addresses are public, and what a subscriber's URL must look like.

Nothing is resolved here. A literal address is judged at once; a name is judged when the connection is
made, on every answer of the resolver (``receiver.dialling``), because only then is its address known.

Sources: IANA's registries of special-purpose addresses, RFC 6890, RFC 6052 (NAT64), RFC 3986 (URLs),
UTS 46 (names that are not ASCII), and the cloud providers' pages on instance metadata.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias
from urllib.parse import quote

import idna

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

MAX_URL = 2048
"""Characters of a URL as it is sent; longer ones are refused."""


class ForbiddenAddress(Exception):
    """An address that the policy does not let us dial.

    Not an OSError: code that retries network faults must never take it for one.
    """


class BadUrl(ValueError):
    """A URL that cannot be used. The text is a sentence for its owner that says what to change."""


# Beside the flags of ``ipaddress``, which differ between versions of Python and miss or admit some of these.
_FORBIDDEN = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's host
        "169.254.0.0/16",  # link-local
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        "::/96",  # unspecified, loopback, IPv4-compatible
        "::ffff:0:0:0/96",  # IPv4-translated
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",  # NAT64, local use
        "100::/64",  # discard
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "fc00::/7",  # unique local
        "fe80::/10",  # link-local
        "fec0::/10",  # site-local
        "ff00::/8",  # multicast
    )
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")  # all that IANA has given out for use on the internet

# Where clouds hand out credentials to whoever asks from inside.
_METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Google Cloud, Azure, Oracle, DigitalOcean, Hetzner, Huawei ...
        "169.254.169.253",  # AWS resolver
        "169.254.170.2",  # AWS container credentials
        "169.254.170.23",  # AWS pod identity
        "169.254.0.23",  # Tencent Cloud
        "169.254.42.42",  # Scaleway
        "100.100.100.200",  # Alibaba Cloud
        "100.96.0.96",  # Volcengine, BytePlus
        "168.63.129.16",  # Azure's host
        "192.0.0.192",  # Oracle Cloud, classic
        "fd00:ec2::254",  # AWS
        "fd00:ec2::253",  # AWS resolver
        "fd00:ec2::23",  # AWS pod identity
        "fd00:42::42",  # Scaleway
        "fd00:100::100:200",  # Alibaba Cloud
        "fd00:a9fe:a9fe::1",  # Akamai
        "fd00:c1::a9fe:a9fe",  # Oracle Cloud
        "fd20:ce::254",  # Google Cloud
        "fe80::a9fe:a9fe",  # OpenStack
    )
)

_IPV4_IN_LAST_BITS = tuple(IPv6Network(text) for text in ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48"))


def _plain(address: Address) -> Address:
    """The IPv4 address that an IPv4-mapped IPv6 address is; any other address as it is, but without its zone."""
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or IPv6Address(int(address))
    return address


def _tunnelled(address: Address) -> Address | None:
    """The IPv4 address that a gateway would send this IPv6 address on to, if it is of such a kind."""
    if isinstance(address, IPv4Address):
        return None
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if any(address in network for network in _IPV4_IN_LAST_BITS):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def is_public(address: Address) -> bool:
    """Whether an address is an ordinary one of the public internet, for one host and in use."""
    address = _plain(address)
    if any(address in network for network in _FORBIDDEN):
        return False
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Which addresses subscribers may have.

    ``allowed_networks``: opened beside the public internet, exactly as named. ``allow_http``: plain
    http is allowed everywhere, not only inside ``allowed_networks``.
    """

    allowed_networks: tuple[Network, ...] = ()
    allow_http: bool = False

    def names(self, address: Address) -> bool:
        """Whether an allowed network contains the address."""
        address = _plain(address)
        return any(address in network for network in self.allowed_networks)

    def permits(self, address: Address) -> bool:
        """Whether the address may be dialled.

        Metadata addresses, also behind a tunnel or NAT64 prefix, need an allowed network of exactly
        that one address (/32 or /128); a larger network around them does not open them.
        """
        address = _plain(address)
        if address in _METADATA or _tunnelled(address) in _METADATA:
            return any(
                network.prefixlen == network.max_prefixlen and address in network for network in self.allowed_networks
            )
        return self.names(address) or is_public(address)

    def permits_http(self, address: Address) -> bool:
        """Whether the address may be dialled without TLS."""
        return self.permits(address) and (self.allow_http or self.names(address))


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart, exactly as it is connected to and sent.

    ``scheme``: "http" or "https". ``host``: ASCII, lower case, without brackets or final dot.
    ``port``: 1 to 65535. ``path``: path and query, ASCII, begins with "/". ``address``: the literal
    IP address that ``host`` is (127.0.0.1 for localhost), or None for a name to be resolved.
    """

    scheme: str
    host: str
    port: int
    path: str
    address: Address | None

    @property
    def origin(self) -> str:
        """``scheme://host:port``, the port always written."""
        return f"{self.scheme}://{self._bracketed}:{self.port}"

    @property
    def host_header(self) -> str:
        """The Host header: the port only where it is not the scheme's own."""
        default = _DEFAULT_PORTS[self.scheme]
        return self._bracketed if self.port == default else f"{self._bracketed}:{self.port}"

    @property
    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


_DEFAULT_PORTS = {"http": 80, "https": 443}
_URL = re.compile(r"(https?)://([^/?]*)(/[^?]*)?(\?.*)?", re.IGNORECASE | re.ASCII | re.DOTALL)
_AUTHORITY = re.compile(r"(?:\[([^\[\]]*)\]|([^:\[\]]*))(?::([0-9]*))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")
_KEPT = "%/:?@!$&'()*+,;=-._~[]"  # sent as they are; everything else that is no letter or digit is escaped


def parse_url(url: str) -> Target:
    """Take an http or https URL apart.

    Raises BadUrl for everything that different parsers read differently (credentials, backslashes,
    white space, fragments, numbers posing as names), so that what was checked is what is dialled.
    """
    if len(url) > MAX_URL:
        raise BadUrl(f"Use a shorter URL: at most {MAX_URL} characters.")
    if "\\" in url:
        raise BadUrl("Remove the backslash from the URL.")
    if any(char.isspace() or unicodedata.category(char) in ("Cc", "Cs") for char in url):
        raise BadUrl("Remove spaces, line breaks and control characters from the URL.")
    if "#" in url:
        raise BadUrl("Remove the part from # on: a fragment is never sent.")
    whole = _URL.fullmatch(url)
    if whole is None:
        raise BadUrl("Use a full URL that begins with https:// (or http://, where that is allowed).")
    scheme = whole[1].lower()
    host, address, port = _parse_authority(whole[2])
    path = quote((whole[3] or "/") + (whole[4] or ""), safe=_KEPT)
    if len(path) > MAX_URL:
        raise BadUrl(f"Use a shorter URL: at most {MAX_URL} characters, escaped ones counted as sent.")
    return Target(scheme, host, _DEFAULT_PORTS[scheme] if port is None else port, path, address)


def check_url(url: str, policy: AddressPolicy) -> Target:
    """Take a subscriber's URL apart and check what can be known of it without resolving its name.

    A name over plain http passes when there are allowed networks at all: that it resolves into one of
    them is checked when the connection is made. Raises BadUrl.
    """
    target = parse_url(url)
    address = target.address
    if address is not None and not policy.permits(address):
        raise BadUrl(
            f"Use a public address: {target.host} is private, local or reserved."
            " Whoever runs this service can open it with RECEIVER_ALLOWED_NETWORKS."
        )
    if target.scheme == "http":
        plain = bool(policy.allowed_networks) if address is None else policy.names(address)
        if not (policy.allow_http or plain):
            raise BadUrl("Use https://: plain http is not allowed here.")
    return target


def _parse_authority(authority: str) -> tuple[str, Address | None, int | None]:
    """Host, its literal address if it is one, and the port if one is given."""
    if "@" in authority:
        raise BadUrl("Remove the user name and password from the URL; use a header for credentials.")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise BadUrl("Write the host as a name, an IPv4 address or an IPv6 address in brackets.")
    port = int(parts[3]) if parts[3] and len(parts[3]) <= 5 else None
    if parts[3] and (port is None or not 1 <= port <= 65535):
        raise BadUrl("Use a port from 1 to 65535.")
    if parts[1] is not None:
        address = _parse_ipv6(parts[1])
        return str(address), address, port
    host = _parse_name(parts[2])
    return host, _address_of(host), port


def _parse_ipv6(text: str) -> Address:
    if "%" in text:
        raise BadUrl("Remove the zone (from % on) from the IPv6 address.")
    try:
        return _plain(IPv6Address(text))
    except ValueError:
        raise BadUrl("Write a valid IPv6 address between the brackets.") from None


def _parse_name(text: str) -> str:
    """A host name as it is resolved and sent: ASCII, lower case, no final dot."""
    if not text:
        raise BadUrl("Add a host name to the URL.")
    name = text.lower()
    if not name.isascii():
        try:
            name = idna.encode(text, uts46=True).decode("ascii").lower()
        except UnicodeError:
            raise BadUrl("Use a valid host name; this one has characters that no name may have.") from None
    name = name.removesuffix(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise BadUrl("Use a valid host name: letters, digits and hyphens between single dots.")
    return name


def _address_of(host: str) -> Address | None:
    """The address that a host name is rather than has."""
    if host == "localhost" or host.endswith(".localhost"):
        return IPv4Address("127.0.0.1")  # RFC 6761: never asked of a resolver
    if not _NUMERIC.fullmatch(host.rpartition(".")[2]):
        return None
    try:
        return IPv4Address(host)
    except ValueError:
        raise BadUrl(
            "Write an IPv4 address as four plain decimal numbers, like 203.0.113.5; other forms are refused."
        ) from None
