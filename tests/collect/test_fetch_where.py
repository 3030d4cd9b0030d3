"""Which machine is asked: addresses, redirects and certificates, on real servers on loopback."""

import datetime
import os
import socket
import ssl

import pytest
from fetching import PNG, fetch, many, names, refuse, why
from websites import site

from components.collect.web.fetch import REDIRECTS


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0.0.0.0"])
def test_no_spelling_leads_to_this_machine(here, host):
    here.say("/a", PNG)
    assert why(here.url("/a", host), private=False) == "private_address"
    assert not here.asked


def test_a_name_is_resolved_once_and_that_address_is_connected_to(here, monkeypatch):
    here.say("/a", PNG)
    went = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, place: went.append(place) or refuse())
    rebinding = names(rebind=["1.1.1.1", "127.0.0.1"])
    assert why(here.url("/a", "rebind.example"), private=False, resolver=rebinding) == "unreachable"
    assert went == [("1.1.1.1", here.port)]


def test_a_name_that_resolves_to_this_machine_later_is_refused_then(here):
    here.say("/a", PNG)
    resolver = names(rebind=["127.0.0.1"])
    assert why(here.url("/a", "rebind.example"), private=False, resolver=resolver) == "private_address"
    assert not here.asked


@pytest.mark.parametrize(
    "location", ["http://127.0.0.1:{port}/in", "//inner.example:{port}/in", "http://0x7f.1:{port}/in"]
)
def test_a_redirect_leads_to_no_inner_address(here, monkeypatch, location):
    """The first hop is let through by hand, as loopback plays the public server here."""
    from components.collect.web import addresses

    resolver = names(public=["127.0.0.2"], inner=["127.0.0.1"], **{"127": ["127.0.0.1"], "0x7f": ["127.0.0.1"]})
    forbidden = addresses.trouble
    monkeypatch.setattr(addresses, "trouble", lambda text: "" if text == "127.0.0.2" else forbidden(text))
    with site_on_all() as there:
        there.say("/in", PNG)
        there.say("/a", (302, {"Location": location.format(port=there.port)}, b""))
        assert why(there.url("/a", "public.example"), private=False, resolver=resolver) == "private_address"
        assert there.asked == {"/a": 1}


def site_on_all():
    return site(host="0.0.0.0")


def test_a_list_of_many_hosts_leaves_few_connections_open():
    def opened(_):
        seen.append(len(os.listdir("/proc/self/fd")))

    seen = []
    opened(0)
    with site_on_all() as there:
        there.say("/a", PNG)
        urls = [there.url("/a", f"127.0.1.{1 + at}") for at in range(200)]
        assert many(urls, obey=True, then=opened) == dict.fromkeys(urls, PNG)
    assert max(seen) - seen[0] < 150, "32 at once, and as many ends of the server's"


def test_redirects_are_followed_and_counted(here):
    here.say("/end", PNG)
    for at in range(REDIRECTS):
        here.say(f"/{at}", (301 + at % 2, {"Location": f"/{at + 1}" if at + 1 < REDIRECTS else "end"}, b""))
    assert fetch(here.url("/0")) == PNG
    assert why(here.say("/round", (302, {"Location": "/round?x"}, b""))) == "redirect"
    assert here.asked["/round"] == REDIRECTS + 1


@pytest.mark.parametrize("location", [None, "file:///etc/passwd", "ftp://a/", "http://", "http://a:b/", "gopher://x"])
def test_a_redirect_to_nowhere_is_refused(here, location):
    assert why(here.say("/a", (302, {"Location": location} if location else {}, b""))) == "redirect"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Contexts of a server called localhost and of a client that trusts it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("tls")
    pem = made.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "both.pem").write_bytes(pem + secret)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "both.pem")
    return server, ssl.create_default_context(cadata=pem.decode())


def test_certificates_are_checked_against_the_name(here, certificates):
    server, trusting = certificates
    heard = []
    server.sni_callback = lambda sock, name, context: heard.append(name)
    with site(tls=server) as secure:
        secure.say("/a", PNG)
        secure.say("/down", (302, {"Location": here.say("/a", PNG)}, b""))
        assert fetch(secure.url("/a", "localhost"), tls=trusting) == PNG
        assert heard == ["localhost"]
        assert why(secure.url("/a", "127.0.0.1"), tls=trusting) == "tls", "the certificate is of another name"
        assert why(secure.url("/a", "localhost")) == "tls", "nobody vouches for it"
        assert why(secure.url("/down", "localhost"), tls=trusting) == "redirect", "https does not lead to http"
        assert not here.asked
