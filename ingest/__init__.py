"""Loads CSV files of any size into PostgreSQL, every record exactly once, whatever crashes.

`cli` reads arguments and environment, builds `settings` and runs `service`, the one file that knows everybody.
Over HTTP, `web` hands the bytes of a file to `receiving`, which cuts them at record ends with `splitter` into chunks,
stores them through `storage` and enters them in the queue through `jobs`. In a worker `poller` claims chunks; for each
one `chunkrun` starts a `reader`, which shovels batches into a channel, and the `writer`s, which load them by `loading`
in one transaction with their line in the ledger; or `wholefile`, where a job is all or nothing. `heartbeat` keeps the
lease and `janitor` rescues what the dead left. `datasets` knows what can be loaded into; `definitions` make of a header
the `spec` that is pinned in the job, and `loading` executes it. `rejects`, `retrying` and `control` are what people do
to jobs; `client` does it from afar, and `remote` from the command line. `caller` is who asks: `keys` and `apikey` know
the API keys, the web's guard checks them, and each job has an owner.
`metrics` counts what a process does, `census` what the database holds; `measuring` brings them together.
Imports point down only: cli, service, web, actors, then the meaning (`jobs`, `datasets`, `loading`, `storage`,
`receiving`, `events`), then `database`, `statements` and `logs`, and at the bottom pure values (`job`, `spec`, `chunk`,
`batch`, `reject`, `accounts`, `dialect`, `definitions`, `splitter`, `settings`, `errors`). `tests/test_layers.py` holds
this.
"""

__version__ = "0.1.0"  # the one place: the package metadata is built from it
