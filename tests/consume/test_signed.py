"""Signatures are checked by the rules of RFC 8032, without any library; a flipped bit is always noticed."""

import base64
import random
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from mirrors import FILES, mirror

from consume import pull, signed

# RFC 8032, section 7.1, TEST 1, 2 and 3: secret key, public key, message, signature.
VECTORS = [
    ("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24"
     "655141438e7a100b"),
    ("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
     "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aee"
     "b00d291612bb0c00"),
    ("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
     "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28d"
     "c027beceea1ec40a"),
]  # fmt: skip


@pytest.mark.parametrize("vector", VECTORS)
def test_it_agrees_with_the_standard(vector):
    _, public, message, signature = map(bytes.fromhex, vector)
    assert signed.signed(public, message, signature)
    assert not signed.signed(public, message + b"x", signature)


def owner(seed=0):
    """A private key, and the line of its public one as `ssh-keygen` writes it."""
    private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    return private, private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


@pytest.mark.slow
def test_every_flipped_bit_is_noticed():
    private, line = owner()
    text = signed.statement("denoiser", 3, "ab" * 32)
    signature, public, chance = private.sign(text), signed.key(line), random.Random(0)
    assert signed.signed(public, text, signature)
    for at in range(60):
        parts = [bytearray(part) for part in (public, text, signature)]
        part = parts[at % 3]
        part[chance.randrange(len(part))] ^= 1 << chance.randrange(8)
        assert not signed.checker(as_line(bytes(parts[0])))(bytes(parts[1]), parts[2].hex())


def as_line(public):
    return "ssh-ed25519 " + base64.b64encode(signed.KIND + public).decode()


def test_a_second_form_of_a_signature_is_none():
    private, line = owner()
    text = b"x"
    signature = private.sign(text)
    larger = int.from_bytes(signature[32:], "little") + signed.Q
    for wrong in (signature[:32] + larger.to_bytes(32, "little"), signature[:-1], signature + b"\0", b""):
        assert not signed.signed(signed.key(line), text, wrong)
    for wrong in ("", "no hex", "ff" * 64):  # the last names no point of the curve
        assert not signed.checker(line)(text, wrong)


@pytest.mark.parametrize("line", ["", "ssh-ed25519", "ssh-rsa AAAAB3NzaC1yc2E=", "ssh-ed25519 ????", as_line(b"short")])
def test_what_is_no_key_is_told(line):
    with pytest.raises(ValueError, match="not the line of an ed25519 public key"):
        signed.key(line)


@pytest.fixture
def place(tmp_path):
    (tmp_path / "mirror").mkdir()
    (tmp_path / "there").mkdir()
    return tmp_path


def source(place, **signatures):
    """A mirror whose registry.json has ``signatures`` by number."""
    import json

    found = mirror(place / "mirror", {**FILES, "model.onnx": b"older"}, FILES)
    table = json.loads((place / "mirror/registry.json").read_text())
    table["models"]["denoiser"]["signatures"] = {number.strip("v"): text for number, text in signatures.items()}
    (place / "mirror/registry.json").write_text(json.dumps(table))
    return found


def sign(place, private, name="denoiser", number=2):
    found = mirror(place / "mirror", {**FILES, "model.onnx": b"older"}, FILES)
    return private.sign(signed.statement(name, number, found.resolve("denoiser", "", number)[1])).hex()


def test_the_puller_takes_what_the_owner_signed_and_refuses_the_rest(place):
    private, line = owner()
    to, check = place / "there/model", signed.checker(line)
    good = sign(place, private)
    assert "pulled and checked" in pull.pull(source(place, v2=good), "denoiser", "champion", to, None, check)
    record = (to / pull.RECORD).read_bytes()
    assert signed.signed(signed.key(line), record, bytes.fromhex(good)), "what is signed is what the folder says it is"
    flipped = f"{int(good[0], 16) ^ 1:x}{good[1:]}"
    for wrong, why in (
        ({"v2": flipped}, "false signature"),
        ({"v2": sign(place, owner(1)[0])}, "false signature"),
        ({"v2": sign(place, private, number=1)}, "false signature"),
        ({"v2": sign(place, private, name="other")}, "false signature"),
        ({"v1": good}, "not signed"),
        ({}, "not signed"),
    ):
        for folder in (to, place / "there/new"):
            with pytest.raises(pull.PullError, match=f"denoiser version 2: {why}"):
                pull.pull(source(place, **wrong), "denoiser", "champion", folder, None, check)
    assert (to / pull.RECORD).read_bytes() == record and not (place / "there/new").exists()


def test_both_files_beside_each_other_need_no_site_packages(place):
    private, line = owner()
    for name in ("pull.py", "signed.py"):
        (place / name).write_bytes((Path(pull.__file__).parent / name).read_bytes())

    def run(key):
        command = [sys.executable, "-I", "-S", str(place / "pull.py"), "denoiser@champion", "--key", key,
                   "--uri", str(place / "mirror"), "--to", str(place / "there/model")]  # fmt: skip
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    source(place, v2=sign(place, private))
    done = run(line)
    assert done.stdout.endswith("denoiser version 2 pulled and checked\n"), done.stderr
    refused = run(owner(1)[1])
    assert (refused.returncode, refused.stderr) == (2, "error: denoiser version 2: false signature\n")
    no_key = run("ssh-rsa AAAA")
    assert no_key.returncode == 2 and "not the line of an ed25519 public key" in no_key.stderr
    (place / "signed.py").unlink()
    missing = run(line)
    assert missing.returncode == 2 and "signed.py" in missing.stderr and missing.stderr.count("\n") == 1
