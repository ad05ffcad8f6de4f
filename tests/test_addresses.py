"""Which addresses may be dialled, and which URLs are understood at all. Pure: nothing is resolved."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.addresses import AddressPolicy, BadUrl, ForbiddenAddress, check_url, is_public, parse_url

PUBLIC_ONLY = AddressPolicy()
PLAIN_HTTP = AddressPolicy(allow_http=True)


def allowing(*networks: str, allow_http: bool = False) -> AddressPolicy:
    """The policy of a service whose operator opened these networks."""
    return AddressPolicy(tuple(ip_network(text) for text in networks), allow_http)


PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "100.63.255.255",
    "100.128.0.1",
    "168.63.129.17",
    "172.15.255.255",
    "172.32.0.1",
    "192.0.1.1",
    "223.255.255.254",
    "2606:4700:4700::1111",
    "2001:4860:4860::8888",
    "2a00:1450:4001::1",
    "::ffff:8.8.8.8",
]

FORBIDDEN = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.127.255.255",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.8",
    "192.0.0.9",
    "192.0.0.170",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "233.252.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::2",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "64:ff9b:1:ffff::a9fe:a9fe",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",  # Teredo
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:1ff::1",
    "2001:db8::1",
    "2002::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fdff::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_may_be_dialled(text: str) -> None:
    """A subscriber on the public internet is reachable without any setting."""
    assert is_public(ip_address(text))
    assert PUBLIC_ONLY.permits(ip_address(text))


@pytest.mark.parametrize("text", FORBIDDEN)
def test_other_addresses_may_not(text: str) -> None:
    """No address that is private, local, reserved, tunnelled or for documentation is dialled."""
    assert not is_public(ip_address(text))
    assert not PUBLIC_ONLY.permits(ip_address(text))


@given(st.ip_addresses(v=4))
def test_ipv4_mapped_is_judged_as_ipv4(address: IPv4Address) -> None:
    """Writing an IPv4 address as IPv6 changes no verdict."""
    policy = allowing("10.0.0.0/8")
    mapped = IPv6Address(f"::ffff:{address}")
    assert policy.permits(mapped) == policy.permits(address)
    assert policy.permits_http(mapped) == policy.permits_http(address)


@given(st.ip_addresses(v=4))
def test_no_tunnel_leads_to_ipv4(address: IPv4Address) -> None:
    """No IPv6 form that a gateway would translate to IPv4 is public, whatever is inside."""
    number = int(address)
    tunnelled = [
        (0x2002 << 112) | (number << 80) | 1,
        (0x0064FF9B << 96) | number,
        (0x0064FF9B0001 << 80) | number,
        (0x20010000 << 96) | (number ^ 0xFFFFFFFF),
        number,
    ]
    assert not any(PUBLIC_ONLY.permits(IPv6Address(form)) for form in tunnelled)


@given(st.ip_addresses(v=6, network="4000::/2"))
def test_ipv6_that_nobody_was_given_is_closed(address: IPv6Address) -> None:
    """Address space that IANA has not given out is not the public internet."""
    assert not PUBLIC_ONLY.permits(address)


def test_allowed_networks_open_exactly_what_they_name() -> None:
    """An allowed network opens its own addresses, not its neighbours nor the other family's."""
    policy = allowing("127.0.0.0/8", "fd12::/64")
    assert policy.permits(ip_address("127.0.0.1"))
    assert policy.permits(ip_address("::ffff:127.0.0.1"))
    assert policy.permits(ip_address("fd12::1"))
    assert policy.permits(ip_address("8.8.8.8"))
    for shut in ("::1", "10.0.0.1", "126.0.0.1", "fd12:0:0:1::1", "::127.0.0.1", "2002:7f00:1::"):
        assert policy.permits(ip_address(shut)) == is_public(ip_address(shut)), shut
    assert not policy.permits(ip_address("::1"))


METADATA = [
    "169.254.0.23",
    "169.254.42.42",
    "169.254.169.253",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "100.100.100.200",
    "100.96.0.96",
    "168.63.129.16",
    "192.0.0.192",
    "fd00:42::42",
    "fd00:100::100:200",
    "fd00:a9fe:a9fe::1",
    "fd00:c1::a9fe:a9fe",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd00:ec2::253",
    "fd20:ce::254",
    "fe80::a9fe:a9fe",
]


def test_a_zone_opens_nothing() -> None:
    """The system's resolver gives a link-local address with the interface that it is on: it stays the same address."""
    world = allowing("0.0.0.0/0", "::/0")
    assert world.permits(ip_address("fe80::1%eth0"))
    assert not world.permits(ip_address("fe80::a9fe:a9fe%eth0"))
    assert allowing("fe80::a9fe:a9fe").permits(ip_address("fe80::a9fe:a9fe%eth0"))


@pytest.mark.parametrize("text", METADATA)
def test_metadata_needs_its_exact_name(text: str) -> None:
    """A large allowed network around a metadata address does not open it; naming it alone does."""
    address = ip_address(text)
    assert not allowing("0.0.0.0/0", "::/0").permits(address)
    assert not allowing("0.0.0.0/0", "::/0", allow_http=True).permits_http(address)
    assert allowing(text).permits(address)


@pytest.mark.parametrize(
    "text",
    [
        "::ffff:169.254.169.254",
        "::ffff:0:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "2001:0:4136:e378:8000:63bf:5601:5601",  # Teredo
        "2002:a9fe:a9fe::1",
        "::169.254.169.254",
    ],
)
def test_metadata_behind_a_tunnel_stays_shut(text: str) -> None:
    """Allowing a tunnel or NAT64 prefix does not open the metadata address behind it."""
    assert not allowing("0.0.0.0/0", "::/0").permits(ip_address(text))


def test_plain_http_follows_the_network() -> None:
    """Plain http is for allowed networks, or for all when it is switched on; never for what is shut."""
    inside = allowing("10.0.0.0/8")
    assert inside.permits_http(ip_address("10.1.2.3"))
    assert not inside.permits_http(ip_address("8.8.8.8"))
    assert PLAIN_HTTP.permits_http(ip_address("8.8.8.8"))
    assert not PLAIN_HTTP.permits_http(ip_address("10.1.2.3"))


def test_a_blocked_address_is_no_network_fault() -> None:
    """Code that retries OSErrors can never take a forbidden address for one."""
    assert not issubclass(ForbiddenAddress, OSError)


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "host_header"),
    [
        ("https://example.com", "example.com", 443, "/", "example.com"),
        ("HTTPS://EXAMPLE.com/", "example.com", 443, "/", "example.com"),
        ("https://example.com./a", "example.com", 443, "/a", "example.com"),
        ("https://example.com:443/a?b=c%2Fd&e", "example.com", 443, "/a?b=c%2Fd&e", "example.com"),
        ("https://example.com:8443?x=1", "example.com", 8443, "/?x=1", "example.com:8443"),
        ("https://example.com:/a", "example.com", 443, "/a", "example.com"),
        ("https://my_service.example/a;b,c(1)", "my_service.example", 443, "/a;b,c(1)", "my_service.example"),
        ("https://straße.de/ö?ü", "xn--strae-oqa.de", 443, "/%C3%B6?%C3%BC", "xn--strae-oqa.de"),
        ("https://例え。jp/", "xn--r8jz45g.jp", 443, "/", "xn--r8jz45g.jp"),
        ("https://8.8.8.8/a//b/../c", "8.8.8.8", 443, "/a//b/../c", "8.8.8.8"),
        ("https://８.８.８.８/", "8.8.8.8", 443, "/", "8.8.8.8"),
        ("https://[2606:4700:4700:0::1111]:8443/", "2606:4700:4700::1111", 8443, "/", "[2606:4700:4700::1111]:8443"),
        ("https://[::ffff:8.8.8.8]/", "8.8.8.8", 443, "/", "8.8.8.8"),
        ("https://example.com/@a:b", "example.com", 443, "/@a:b", "example.com"),
        ("https://1e100.net/", "1e100.net", 443, "/", "1e100.net"),
    ],
)
def test_good_urls_are_taken_apart_once(url: str, host: str, port: int, path: str, host_header: str) -> None:
    """What is checked is what is dialled and sent: one parse gives host, port, path and Host header."""
    target = check_url(url, PUBLIC_ONLY)
    assert (target.scheme, target.host, target.port, target.path) == ("https", host, port, path)
    assert target.host_header == host_header
    again = parse_url(target.origin + target.path)
    assert again == target


BAD = {
    "credentials": ["https://user:pass@example.com/", "https://user@example.com", "https://@example.com/"],
    "backslash": [
        "http://127.0.0.1:80\\@good.example/",
        "https:\\\\example.com\\a",
        "https://example.com/a\\b",
        "https://example.com/?a\\b",
        "https://good.example\\.evil.example/",
    ],
    "white space and control": [
        " https://example.com/",
        "https://example.com/\n",
        "https://exa mple.com/",
        "https://example.com/a b",
        "https://example.com/\r\nX-Evil: 1",
        "https://example.com/\t",
        "https://example.com/\x00",
        "https://example.com/\x7f",
        "https://example.com/\u2028",
        "https://example.com/\ud800",
        "https://127.0.0.1\u3000.example/",
    ],
    "fragment": ["https://example.com/#a", "https://good.example#@evil.example/"],
    "scheme": [
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com:70/_x",
        "//example.com/",
        "example.com",
        "https:example.com",
        "https:/example.com",
        "javascript:alert(1)",
        "http\u017f://example.com/",  # a long s, which is an s where case does not matter
        "http\u017f://example.com:8443/",
        "",
    ],
    "host": [
        "https://",
        "https:///a",
        "https://:443/",
        "https://.",
        "https://.example.com/",
        "https://a..b/",
        "https://example.com../",
        "https://-a.example/",
        "https://%31%32%37.0.0.1/",
        "https://exa$mple.com/",
        "https://a／b.example/",
        "https://a＠b.example/",
        "https://" + "a" * 64 + ".example/",
        "https://" + "a." * 127 + "example/",
    ],
    "port": [
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:99999999999999/",
        "https://example.com:-1/",
        "https://example.com:8a/",
        "https://example.com:８０/",
        "https://example.com:80:80/",
    ],
    "number posing as a name": [
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.1/",
        "https://0X7F.0.0.1/",
        "https://017700000001/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://127.0.1/",
        "https://127.0.0.01/",
        "https://127.0.0.0x1/",
        "https://1/",
        "https://0/",
        "https://256.256.256.256/",
        "https://1.2.3.4.5/",
        "https://example.1/",
        "https://example.0x/",
        "https://２１３０７０６４３３/",
    ],
    "IPv6": [
        "https://[fe80::1%25eth0]/",
        "https://[2606:4700::1%eth0]/",
        "https://[::1/",
        "https://::1/",
        "https://[]/",
        "https://[example.com]/",
        "https://[2606:4700::1]a/",
        "https://[2606:4700::1]]/",
        "https://[v1.a]/",
    ],
    "forbidden literal": [
        "https://127.0.0.1/",
        "https://127.0.0.1./",
        "https://１２７.０.０.１/",
        "https://127。0。0。1/",
        "https://①②⑦.0.0.1/",
        "https://127.0.0.1\u200b/",
        "https://[::1]/",
        "https://[::]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[0:0:0:0:0:ffff:7f00:1]/",
        "https://[64:ff9b::a00:1]/",
        "https://169.254.169.254/latest/meta-data/",
        "https://10.0.0.1/",
        "https://localhost/",
        "https://LOCALHOST./",
        "https://api.localhost/",
        "https://ⓛocalhost/",
    ],
    "too long": ["https://example.com/" + "a" * 2048, "https://example.com/" + "ö" * 1000],
    "plain http": ["http://example.com/", "http://8.8.8.8/"],
}


@pytest.mark.parametrize("url", [url for urls in BAD.values() for url in urls])
def test_bad_urls_are_refused_with_a_sentence(url: str) -> None:
    """Every trick is refused at registration, and the owner is told what to change."""
    with pytest.raises(BadUrl, match=r"^[A-Z].*\.$"):
        check_url(url, PUBLIC_ONLY)


def test_http_is_allowed_where_the_policy_says() -> None:
    """Plain http: everywhere if switched on, to literal addresses in an allowed network, to names in doubt."""
    inside = allowing("127.0.0.0/8")
    assert check_url("http://example.com/", PLAIN_HTTP).port == 80
    assert check_url("http://127.0.0.1:8080/", inside).address == IPv4Address("127.0.0.1")
    assert check_url("http://internal.example/", inside).address is None  # judged when it is dialled
    with pytest.raises(BadUrl, match="https"):
        check_url("http://8.8.8.8/", inside)
    with pytest.raises(BadUrl, match="public"):
        check_url("http://10.0.0.1/", allowing("127.0.0.0/8", allow_http=True))


def test_localhost_is_the_loopback_address() -> None:
    """The name localhost is never asked of a resolver: it is 127.0.0.1, and as open or shut as that."""
    target = check_url("http://hook.localhost:9000/a", allowing("127.0.0.1/32"))
    assert target.address == IPv4Address("127.0.0.1")
    assert target.host_header == "hook.localhost:9000"


_PIECES = st.lists(
    st.one_of(
        st.sampled_from(["http", "https", "://", "//", ":", "@", "\\", "/", "?", "#", "[", "]", "%", ".", "0x7f"]),
        st.sampled_from(["127.0.0.1", "localhost", "::1", "example.com", "xn--", "１", "。", "80"]),
        st.text(max_size=4),
    ),
    max_size=12,
)


@given(_PIECES.map("".join) | _PIECES.map(lambda pieces: "https://" + "".join(pieces)))
def test_no_url_is_a_surprise(url: str) -> None:
    """Any text is either refused as a BadUrl or gives a target of harmless ASCII that parses to itself."""
    try:
        target = check_url(url, PUBLIC_ONLY)
    except BadUrl:
        return
    sent = target.origin + target.path
    assert sent.isascii()
    assert not set(sent) & set(" \r\n\t\\#\x00")
    assert target.address is None or PUBLIC_ONLY.permits(target.address)
    assert parse_url(sent) == target
