"""A typed client of the service's HTTP interface, for Trio and for asyncio.

    async with Client("http://127.0.0.1:8000", api_key=key) as client:
        with open("orders.csv", "rb") as file:
            job = await client.upload(file, dataset="orders", filename="orders.csv")
        async with client.watch(job.id) as changes:
            async for job in changes:
                print(job.progress)

It knows nothing of the service but what the API reference says. Whatever goes wrong on purpose is a ClientError.
"""

from ingest.client.client import Client
from ingest.client.errors import (
    ClientError,
    Conflict,
    Forbidden,
    NotFound,
    ProblemError,
    Refused,
    ServerFault,
    TooMany,
    Unauthorised,
    Unreachable,
)
from ingest.client.values import Job, Page, Reject
from ingest.client.watching import Watch

__all__ = [
    "Client",
    "ClientError",
    "Conflict",
    "Forbidden",
    "Job",
    "NotFound",
    "Page",
    "ProblemError",
    "Refused",
    "Reject",
    "ServerFault",
    "TooMany",
    "Unauthorised",
    "Unreachable",
    "Watch",
]
