"""Commands about who may do what: key, rule, sign, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from pyfactory.cli import ruling
from pyfactory.cli.committing import Message
from pyfactory.cli.keys import Key, signer_of
from pyfactory.cli.output import emit, line, note
from pyfactory.cli.repository import Json, Repo, author

__all__ = ["register"]

Name = Annotated[str, typer.Argument(help="What the key is called here, such as its owner.")]
KeyFile = Annotated[Path, typer.Argument(metavar="FILE", help="File of the key.")]

_DIGITS = 64


def register(app: typer.Typer) -> None:
    """Add the commands."""
    key = typer.Typer(help="Make keys, and say whose signatures count.", no_args_is_help=True)
    for name, command in (("new", new), ("show", show), ("trust", trust), ("distrust", distrust), ("list", list_)):
        key.command(name)(command)
    app.add_typer(key, name="key")
    ruling.register(app)
    app.command()(sign)
    app.command()(refusals)


def new(file: KeyFile, as_json: Json = False) -> None:
    """Make a private key (Ed25519), in a file that only you can read."""
    from pyfactory.repo.signing import Signer

    public = Signer.generate(file).public
    if not emit({"file": str(file), "public": public}, as_json=as_json):
        line(f"made a private key in [bold]{escape(str(file))}[/]; its public key is")
        line(public)
        line(f"next: pyfactory key trust REPO NAME {public[:12]}…")


def show(file: KeyFile, as_json: Json = False) -> None:
    """Print the public key of a private or public key."""
    public = _public(str(file))
    if not emit({"file": str(file), "public": public}, as_json=as_json):
        line(public)


def trust(
    repo: Repo,
    name: Name,
    public: Annotated[str, typer.Argument(metavar="PUBLIC", help="64 digits, or the file of the key (FILE.pub).")],
    key: Key = None,
    message: Message = "",
    as_json: Json = False,
) -> None:
    """Let the signatures of a key count; once there is one, this needs --key, a key that counts already."""
    from pyfactory.repo.repository import Repository
    from pyfactory.repo.ruling import trust_key

    trusted = _public(public)
    changed = trust_key(Repository.open(repo), name, trusted, author(), message, signer_of(key))
    if not emit({"changed": changed, "name": name, "public": trusted}, as_json=as_json):
        line(f"[green]{escape(name)}[/] {trusted} {'is trusted' if changed else 'was trusted already'}")


def distrust(repo: Repo, name: Name, key: Key = None, message: Message = "", as_json: Json = False) -> None:
    """Let no signature of a key count any more, old ones included."""
    from pyfactory.repo.repository import Repository
    from pyfactory.repo.ruling import distrust_key

    distrust_key(Repository.open(repo), name, author(), message, signer_of(key))
    if not emit({"changed": True, "name": name}, as_json=as_json):
        line(f"[green]{escape(name)}[/] is not trusted any more; what only it signed counts as not signed")


def list_(repo: Repo, as_json: Json = False) -> None:
    """List the keys whose signatures count."""
    from pyfactory.repo.repository import Repository
    from pyfactory.repo.rules import trusted_keys

    opened = Repository.open(repo)
    keys = trusted_keys(opened, opened.view())
    if emit(keys, as_json=as_json):
        return
    for name, public in sorted(keys.items()):
        line(f"[green]{escape(name)}[/] {public}")
    if not keys:
        note("no key is trusted: no signature counts, and rules can be changed without one")


def sign(
    repo: Repo,
    ref: Annotated[str, typer.Argument(help="Tag, branch or commit digest; of a branch, its commit is signed.")],
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Vouch for a commit or a tag that exists, with --key or PYFACTORY_KEY."""
    from pyfactory.errors import InvalidInputError
    from pyfactory.repo.names import TAG
    from pyfactory.repo.repository import Repository
    from pyfactory.repo.rules import trusted_keys
    from pyfactory.repo.signatures import sign_commit, sign_tag

    signer = signer_of(key)
    if signer is None:
        raise InvalidInputError("there is no key to sign with", hint="give --key FILE or set PYFACTORY_KEY")
    opened = Repository.open(repo)
    resolved = opened.resolve(ref)
    if resolved.ref.startswith(TAG):
        sign_tag(opened, resolved.ref.removeprefix(TAG), resolved.commit, signer)
    else:
        sign_commit(opened, resolved.commit, signer)
    trusted = signer.public in trusted_keys(opened, opened.view()).values()
    value = {"commit": resolved.commit, "public": signer.public, "ref": resolved.ref, "trusted": trusted}
    if not emit(value, as_json=as_json):
        what = f"{escape(resolved.ref)} = " if resolved.ref != resolved.commit else ""
        line(f"signed {what}[yellow]{resolved.commit[:12]}[/] with {signer.public}")
        if not trusted:
            note("this key is not trusted here, so the signature does not count: pyfactory key trust")


def refusals(
    repo: Repo,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="Show at most so many.")] = 20,
    as_json: Json = False,
) -> None:
    """List what the rules did not allow, newest first."""
    from pyfactory.repo.refusal import list_refusals
    from pyfactory.repo.repository import Repository

    opened = Repository.open(repo)
    found = list_refusals(opened, opened.view(), limit)
    if emit([refusal.to_value() for refusal in found], as_json=as_json):
        return
    for refusal in found:
        line(f"[yellow]{refusal.n}[/] {refusal.time} {escape(refusal.who)}: {escape(refusal.what)}")
        line(f"    {escape(refusal.why)}")
    if not found:
        note("nothing was refused yet")


def _public(text: str) -> str:
    """Return a public key that is given as digits or as a file."""
    from pyfactory.repo.signing import check_public, read_public

    looks = len(text) == _DIGITS and all(digit in "0123456789abcdefABCDEF" for digit in text)
    return check_public(text.lower()) if looks else read_public(text)
