"""The owner's key signs what the ledger says, when there is one; a key that cannot be used is told before the work."""

import subprocess

import pytest
from checkouts import ROOT, edit

from components.base import config
from components.base.errors import UserError
from components.register.params import RegisterParams
from consume import signed
from consume.pull import SIGNATURE
from flows.model import pull as pulling
from flows.registry import publish, sign
from flows.registry.metrics import MetricStream
from flows.registry.mlflow import MANIFEST_TAG, Tracker
from flows.registry.versions import Versions


def params(where):
    return RegisterParams.model_validate(config.read(ROOT / config.FILE)["register"] | {"signing_key": where})


def generated(folder, *options):
    """The path of a key that `ssh-keygen` made, and its public line."""
    path = folder / "key"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "owner", "-f", str(path), *options]
    subprocess.run(command, check=True, capture_output=True)
    return path, path.with_suffix(".pub").read_text()


def test_a_key_of_ssh_keygen_signs_what_the_puller_checks(tmp_path, monkeypatch):
    path, line = generated(tmp_path)
    said = []
    for where in (str(path), "$OWNERS_KEY"):
        monkeypatch.setenv("OWNERS_KEY", str(path))
        signer = sign.signer(tmp_path / "checkout", params(where), say=said.append)
        signature = signer("denoiser", 3, "ab")
        assert signed.checker(line)(signed.statement("denoiser", 3, "ab"), signature)
        assert not signed.checker(line)(signed.statement("denoiser", 4, "ab"), signature)
    assert not said
    monkeypatch.delenv("OWNERS_KEY")
    assert sign.signer(tmp_path, params("$OWNERS_KEY"), say=said.append) is None
    assert said == ["versions are not signed here: OWNERS_KEY (register.signing_key) is not set"]
    assert sign.signer(tmp_path, params(None), say=said.append) is None and len(said) == 1


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("{0}/checkout/key", "wanted a path outside of this checkout"),
        ("key", "wanted a path outside of this checkout"),
        ("~no-such-account/key", "wanted a path outside of this checkout"),
        ("{0}/none", "cannot be read"),
        ("{0}/key.pub", "not a private key without a passphrase"),
        ("{0}/secret", "not a private key without a passphrase"),
        ("{0}/rsa", "not an ed25519 key"),
    ],
)
def test_a_key_that_cannot_be_used_is_one_line(tmp_path, where, line):
    generated(tmp_path)
    for name, words in (("secret", ["ed25519", "-N", "passphrase"]), ("rsa", ["rsa", "-b", "2048", "-N", ""])):
        if where.endswith(name):
            subprocess.run(["ssh-keygen", "-q", "-t", *words, "-f", str(tmp_path / name)], check=True)
    with pytest.raises(UserError, match=f"register.signing_key: .*{line}"):
        sign.signer(tmp_path / "checkout", params(where.format(tmp_path)), say=print)


@pytest.mark.slow
def test_a_publish_signs_every_version_and_pull_checks_it(here, tmp_path):
    path, line = generated(tmp_path)
    edit(here.root, "register", signing_key=str(path))
    publish.publish(here, {}, MetricStream(here), say=print)
    versions = Versions(Tracker(here, here.database), "denoiser")
    for one in versions.all():
        said = signed.statement("denoiser", int(one.version), one.tags[MANIFEST_TAG])
        assert signed.checker(line)(said, one.tags[SIGNATURE])

    def pull(pin):
        return pulling.pull(here, "denoiser", tmp_path / "model", pin=pin, uri=None, key=f"{path}.pub", dry_run=False)

    assert "version 2 pulled and checked" in pull(2)
    first = versions.numbered(1)
    versions.client.set_model_version_tag("denoiser", 2, SIGNATURE, first.tags[SIGNATURE])
    with pytest.raises(UserError, match="denoiser version 2: false signature"):
        pull(2)
    versions.client.delete_model_version_tag("denoiser", 2, SIGNATURE)
    with pytest.raises(UserError, match="denoiser version 2: not signed"):
        pull(2)
    publish.sync(here, say=print)
    assert "nothing to do" in pull(2)
    with pytest.raises(UserError, match="--key: not the line of an ed25519 public key"):
        pulling.pull(here, "denoiser", tmp_path / "model", pin=2, uri=None, key=str(path), dry_run=True)
