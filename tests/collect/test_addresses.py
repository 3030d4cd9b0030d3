"""Which addresses may be connected to."""

import ipaddress
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.collect.web.addresses import ForbiddenError, resolve, trouble

INNER = ["0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.9.9.9", "168.63.129.16",
         "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.168.1.1", "198.18.0.1",
         "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"]  # fmt: skip


@pytest.mark.parametrize("address", INNER)
@pytest.mark.parametrize("disguise", ["{}", "::ffff:{}", "64:ff9b::{}", "::{}", "2002:{hex}::1"])
def test_no_disguise_of_an_inner_ipv4_address_is_let_through(address, disguise):
    number = int(ipaddress.IPv4Address(address))
    assert trouble(disguise.format(address, hex=f"{number >> 16:x}:{number & 0xFFFF:x}"))


@pytest.mark.parametrize(
    "address",
    ["::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1",
     "2001::1", "64:ff9b:1::a00:1", "100::1", "4000::1", "2002:808:808::1", "no address", ""],
)  # fmt: skip
def test_inner_ipv6_addresses_are_refused(address):
    assert trouble(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_public_addresses_are_not(address):
    assert trouble(address) == ""


@settings(deadline=None)
@given(st.ip_addresses())
def test_what_python_calls_not_global_is_never_let_through(address):
    if not address.is_global or address.is_multicast:
        assert trouble(str(address))
    if address.version == 4:
        assert bool(trouble(str(address))) == bool(trouble(f"::ffff:{address}")), "a mapped address is that address"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "::1"]
)
def test_no_spelling_of_loopback_gets_past_the_resolver(host):
    with pytest.raises(ForbiddenError):
        resolve(host, 80, private=False)


def test_of_several_addresses_only_the_public_ones_are_used():
    def both(*_, **__):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 80)) for each in ("10.0.0.1", "1.1.1.1")]

    assert [each.sockaddr[0] for each in resolve("a", 80, private=False, resolver=both)] == ["1.1.1.1"]
    assert len(resolve("a", 80, private=True, resolver=both)) == 2
