"""Commands about keys, rules, signatures and refusals."""

from __future__ import annotations

import os
import pty
import select
import stat
import subprocess
from itertools import chain
from pathlib import Path

import pytest
from cli_runs import COMMAND, Shell, check_refusal

from pyfactory.repo.repository import Repository
from pyfactory.repo.rule_text import gate_from_text
from pyfactory.repo.signing import Signer


@pytest.fixture
def key(tmp_path: Path) -> Path:
    Signer.generate(tmp_path / "ada")
    return tmp_path / "ada"


def public(path: Path) -> str:
    return Signer.load(path).public


def test_a_key_is_made_and_shown(shell: Shell, tmp_path: Path) -> None:
    """Catches a command that prints the private key, or writes it for all to read."""
    said = shell.done("key", "new", tmp_path / "ada")
    content = (tmp_path / "ada").read_text()
    assert stat.S_IMODE((tmp_path / "ada").stat().st_mode) == 0o600
    assert public(tmp_path / "ada") in said and content.splitlines()[1] not in said
    assert shell.done("key", "show", tmp_path / "ada") == f"{public(tmp_path / 'ada')}\n"
    assert "never overwritten" in check_refusal(shell("key", "new", tmp_path / "ada"))
    assert "there is no key" in check_refusal(shell("key", "show", tmp_path / "none"))
    (tmp_path / "ada").chmod(0o644)
    assert "chmod 600" in check_refusal(shell("key", "show", tmp_path / "ada"))
    made = shell("key", "new", tmp_path / "bob", "--json").value
    assert made == {"file": str(tmp_path / "bob"), "public": public(tmp_path / "bob")}


def test_keys_are_trusted_and_distrusted(
    shell: Shell, repo: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.done("key", "list", repo)
    assert shell("key", "trust", repo, "ada", public(key), "--json").value["changed"] is True
    Signer.generate(tmp_path / "bob")
    (tmp_path / "bob.pub").write_text(public(tmp_path / "bob"))
    refused = check_refusal(shell("key", "trust", repo, "bob", tmp_path / "bob.pub"))
    assert "needs the signature of a trusted key" in refused and "--key" in refused
    refused = check_refusal(shell("key", "trust", repo, "bob", tmp_path / "bob.pub", "--key", tmp_path / "bob"))
    assert "is not trusted" in refused
    shell.done("key", "trust", repo, "bob", tmp_path / "bob.pub", "--key", key, "-m", "a colleague")
    assert next(Repository.open(repo).operations()).why == "a colleague"
    assert shell("key", "list", repo, "--json").value == {"ada": public(key), "bob": public(tmp_path / "bob")}
    monkeypatch.setenv("PYFACTORY_KEY", str(key))
    shell.done("key", "distrust", repo, "ada")
    assert "is trusted" in check_refusal(shell("key", "distrust", repo, "eve"))
    assert shell.done("key", "list", repo) == f"bob {public(tmp_path / 'bob')}\n"
    check_refusal(shell("key", "trust", repo, "ada", public(key)))
    monkeypatch.delenv("PYFACTORY_KEY")
    listed = shell("refusals", repo, "--json").value
    assert [(refusal["who"], refusal["what"]) for refusal in listed] == [
        ("tester", "trust the key ada"),
        ("tester", "trust the key bob"),
        ("tester", "trust the key bob"),
    ]
    assert "trust the key bob" in shell.done("refusals", repo, "-n", "3")
    for wrong in ("00" * 32, "ab" * 20, str(tmp_path)):
        check_refusal(shell("key", "trust", repo, "carl", wrong))


def test_rules_are_set_by_options(shell: Shell, repo: Path) -> None:
    """Catches options that are not named and change all the same."""
    assert shell.done("rule", "show", repo) == ""
    shell.done("rule", "set", repo, "main", "--protected", "--gate", "nulls:raw:max_null=0.5", "--gate", "schema")
    gates = [
        {"gate": "nulls", "options": {"max_null": "0.5"}, "table": "raw"},
        {"gate": "schema", "options": {}, "table": "*"},
    ]
    rule = {"gates": gates, "kind": "rule", "protected": True, "signed": False, "v": 1}
    assert shell("rule", "show", repo, "--json").value == {"main": rule}
    said = shell("rule", "set", repo, "main", "--signed", "--json").value
    noted: dict[str, list[str]] = {"unknown_tables": [], "unsuited": []}
    assert said == {"branch": "main", "changed": True, "rule": rule | {"signed": True}, **noted}
    shell.done("rule", "set", repo, "main", "--no-protected", "--no-gates")
    now = {"gates": [], "kind": "rule", "protected": False, "signed": True, "v": 1}
    assert shell("rule", "show", repo, "main", "--json").value == {"main": now}
    assert "main signed" in shell.done("rule", "show", repo)
    assert shell("rule", "remove", repo, "main", "--json").value["changed"] is True
    assert shell("rule", "remove", repo, "main", "--json").value["changed"] is False
    assert shell("rule", "show", repo, "--json").value == {}


def test_a_table_that_a_branch_lacks_is_noted(shell: Shell, repo: Path) -> None:
    """Catches a slip in the name of a table that shows only when a merge is refused."""
    said = shell("rule", "set", repo, "main", "--gate", "schema:rwa", "--gate", "schema:raw", "--gate", "schema")
    assert (
        said.code == 0 and "main has no table 'rwa': the gate fails until there is one (did you mean raw?)" in said.err
    )
    assert "'raw'" not in said.err
    again = shell("rule", "set", repo, "main", "--protected", "--json")
    assert again.value["unknown_tables"] == ["rwa"] and again.err == ""
    assert shell("rule", "set", repo, "later", "--gate", "schema:rwa").err == "", "it may be made with that table"


def test_a_gate_that_cannot_judge_a_table_is_noted(shell: Shell, repo: Path) -> None:
    """Catches a gate on texts for a table of tokens, which shows only when a merge is refused."""
    good = ("language:raw:allowed=en", "duplicates:corpus", "language:allowed=en")
    gates = [("--gate", gate) for gate in ("language:corpus:allowed=en", "nulls:raw:columns=nn", *good)]
    said = shell("rule", "set", repo, "main", *chain(*gates))
    assert said.code == 0, said.err
    assert "the table 'corpus' of main has no text column 'text': the gate language fails until" in said.err
    assert "the table 'raw' of main has no column 'nn': the gate nulls fails until" in said.err
    assert said.err.count("note:") == 2
    again = shell("rule", "set", repo, "main", "--protected", "--json")
    assert [each["gate"] for each in again.value["unsuited"]] == ["language", "nulls"] and again.err == ""


def test_rules_are_set_by_a_file(shell: Shell, repo: Path, tmp_path: Path) -> None:
    file = tmp_path / "rule.yaml"
    file.write_text('protected: true\ngates:\n  - gate: nulls\n    table: raw\n    options: {max_null: "0.5"}\n')
    said = shell("rule", "set", repo, "main", file, "--json").value["rule"]
    assert said["gates"] == [{"gate": "nulls", "options": {"max_null": "0.5"}, "table": "raw"}]
    assert (said["protected"], said["signed"]) == (True, False)
    file.write_text("protect: true\n")
    assert f"{file}:1" in shell.refused(repo, "rule", "set", repo, "main", file)
    file.write_text("gates:\n  - gate: nulls\n    options: {max_nul: '0.5'}\n")
    assert "max_null" in shell.refused(repo, "rule", "set", repo, "main", file)
    file.write_text("gates:\n  - gate: nulls\n    options: {max_null: 0.05}\n")
    said = shell.refused(repo, "rule", "set", repo, "main", file)
    assert f"{file}:3: 0.05 is a number with a fraction" in said and "quote it ('0.05')" in said


@pytest.mark.parametrize(
    "arguments",
    [[], ["x.yaml", "--signed"], ["--gate", "nul"], ["--gate", "nulls:raw:x=1"], ["--gate", "schema", "--no-gates"]],
)
def test_rules_that_are_none(shell: Shell, repo: Path, arguments: list[str]) -> None:
    shell.refused(repo, "rule", "set", repo, "main", *arguments)


def test_what_is_signed_can_be_required(shell: Shell, repo: Path, key: Path) -> None:
    sample = ("sample", repo, "corpus@v1", "--seed", 1, "--sequence-length", 16)
    assert "no key is trusted" in check_refusal(shell(*sample, "--require", "signed"))
    shell.done("key", "trust", repo, "ada", key)
    assert "no key to sign with" in check_refusal(shell("sign", repo, "v1"))
    assert "pyfactory sign" in check_refusal(shell(*sample, "--require", "signed"))
    said = shell("sign", repo, "v1", "--key", key, "--json").value
    assert (said["ref"], said["trusted"], said["public"]) == ("tag/v1", True, public(key))
    shell.done(*sample, "--require", "signed")
    assert "by no gate" in check_refusal(shell(*sample, "--require", "signed,gated"))
    check_refusal(shell(*sample, "--require", "gatde"))
    head = Repository.open(repo).head()
    assert f"signed branch/main = {head[:12]}" in shell.done("sign", repo, "main", "--key", key)
    assert "there is no" in check_refusal(shell("sign", repo, "v9", "--key", key))


def test_a_stranger_is_told_that_he_is_one(shell: Shell, repo: Path, key: Path) -> None:
    ran = shell("sign", repo, "v1", "--key", key)
    assert ran.code == 0 and "not trusted here" in ran.err


def test_an_encrypted_key(shell: Shell, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a password that is asked for where nobody sits, or shown where somebody does."""
    from cryptography.hazmat.primitives import serialization as formats
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    how = formats.BestAvailableEncryption(b"sesame")
    content = Ed25519PrivateKey.generate().private_bytes(formats.Encoding.PEM, formats.PrivateFormat.PKCS8, how)
    path = tmp_path / "locked"
    path.write_bytes(content)
    path.chmod(0o600)
    assert "password" in check_refusal(shell("sign", repo, "v1", "--key", path))
    monkeypatch.setenv("PYFACTORY_KEY_PASSWORD", "wrong")
    assert "the password is wrong" in check_refusal(shell("sign", repo, "v1", "--key", path))
    monkeypatch.setenv("PYFACTORY_KEY_PASSWORD", "sesame")
    shell.done("sign", repo, "v1", "--key", path)
    monkeypatch.delenv("PYFACTORY_KEY_PASSWORD")
    shown, code = typed([*COMMAND, "sign", str(repo), "v1", "--key", str(path)], b"locked: ", b"sesame\n")
    assert code == 0 and b"signed" in shown and b"sesame" not in shown, shown


def typed(command: list[str], prompt: bytes, answer: bytes) -> tuple[bytes, int]:
    """Run a command on a terminal, answer its prompt, and return what was shown and the exit code."""
    terminal, theirs = pty.openpty()
    child = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    shown = b""
    try:
        while select.select([terminal], [], [], 60)[0]:
            try:
                shown += os.read(terminal, 1000)
            except OSError:  # the child is gone, and the terminal with it
                break
            if prompt in shown and answer:
                os.write(terminal, answer)
                answer = b""
        return shown, child.wait(10)
    finally:
        child.kill()
        child.wait()
        os.close(terminal)


def test_a_list_of_texts_stands_between_commas() -> None:
    """Catches `kinds=email,phone` taken for one kind, and a comma of a query taken for the end of it."""
    assert gate_from_text("pii:raw:kinds=email,phone,max_share=0.1").options == {
        "kinds": ["email", "phone"],
        "max_share": "0.1",
    }
    assert gate_from_text("language:*:mix=en=0.8,de=0.2").options == {"mix": ["en=0.8", "de=0.2"]}
    assert gate_from_text("sql:raw:query=select 1, 2 from added").options == {"query": "select 1, 2 from added"}
