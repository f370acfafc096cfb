"""`ingest keys`: API keys, made and ended straight in the database."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

import click
import trio

from ingest import logs
from ingest.apikey import read_key
from ingest.caller import Scope
from ingest.database import migrate_database, open_database
from ingest.environment import database_dsn, read_settings
from ingest.keys import KeyLimits, Keys

T = TypeVar("T")

OWNER = re.compile(r"[\w.@+-]{1,100}")
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
MOST_DAYS = 36_500


@click.group("keys")
def keys_group() -> None:
    """Create, list and revoke API keys. Talks to the database, not to a server."""


@keys_group.command("create")
@click.option("--owner", required=True, help="Whose key it is: jobs sent with it are seen by keys of this owner only.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What it allows; may be given several times. admin allows everything, on everybody's jobs.",
)
@click.option("--expires", metavar="90d", help="When it ends: a number and m, h, d or w (default: never).")
@click.option("--bytes-per-day", type=click.IntRange(min=1), help="Bytes of uploads in a day (UTC).")
@click.option("--open-jobs", type=click.IntRange(min=1, max=2**31 - 1), help="Jobs that have not ended, at once.")
@click.option("--requests-per-second", type=click.FloatRange(min=0.001), help="Requests, in each process.")
@click.option("--jobs-per-second", type=click.FloatRange(min=0.001), help="New jobs.")
def create_command(
    owner: str,
    scopes: tuple[str, ...],
    expires: str | None,
    bytes_per_day: int | None,
    open_jobs: int | None,
    requests_per_second: float | None,
    jobs_per_second: float | None,
) -> None:
    """Create a key and print it: this once, since only a hash of it is stored."""
    if not OWNER.fullmatch(owner):
        raise click.UsageError("--owner must be 1 to 100 letters, digits and . _ @ + -")
    limits = KeyLimits(
        bytes_per_day=bytes_per_day,
        open_jobs=open_jobs,
        requests_per_second=requests_per_second,
        jobs_per_second=jobs_per_second,
    )
    wanted, expires_in = frozenset(map(Scope, scopes)), _duration(expires)
    key = _ask(lambda keys: keys.create(owner=owner, scopes=wanted, expires_in=expires_in, limits=limits))
    click.echo(key.text)
    click.echo(f"key {key.prefix} of {owner}; it is not shown again", err=True)


@keys_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def list_command(as_json: bool) -> None:
    """List the keys, without their secrets."""
    found = _ask(Keys.all)
    if as_json:
        click.echo(json.dumps(found, indent=2, default=str))
        return
    for key in found:
        used = f"used {_shown(key['last_used_at'])}" if key["last_used_at"] else "never used"
        ends = f", expires {_shown(key['expires_at'])}" if key["expires_at"] else ""
        click.echo(f"{key['prefix']}  {key['status']:<8} {key['owner']:<20} {','.join(key['scopes'])}  {used}{ends}")


@keys_group.command("revoke")
@click.argument("prefix")
def revoke_command(prefix: str) -> None:
    """Revoke the key with this PREFIX (or the whole key); services refuse it within seconds."""
    key = read_key(prefix)
    name = key.prefix if key else prefix
    _ask(partial(Keys.revoke, prefix=name))
    click.echo(f"key {name} is revoked")


def _duration(text: str | None) -> timedelta | None:
    if text is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,7})([mhdw])", text)
    duration = timedelta(**{UNITS[found[2]]: int(found[1])}) if found else None
    if duration is None or duration.days > MOST_DAYS:
        raise click.UsageError("--expires must be a number and m, h, d or w, as 90d, and at most 100 years")
    return duration


def _shown(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def _ask(question: Callable[[Keys], Awaitable[T]]) -> T:
    """Ask the database something about keys, with the schema as this version needs it."""
    settings = read_settings()
    logs.configure("WARNING", settings.log_format)
    with database_dsn(settings) as dsn:
        return trio.run(_answer, dsn, question)


async def _answer(dsn: str, question: Callable[[Keys], Awaitable[T]]) -> T:
    async with open_database(dsn, pool_size=1, name="ingest keys") as database:
        await migrate_database(database)
        return await question(Keys(database))
