"""The tables that a plan fills: whether they are there and can take its rows, said before a file is taken in."""

from __future__ import annotations

from ingest.database import Database, Record
from ingest.definitions.matching import shown
from ingest.errors import RequestError
from ingest.spec import Merge, Plan, Target
from ingest.statements import dataset_script, statement

# Two uploads that make the same tables at once would fail one another, IF NOT EXISTS or not.
ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtext('ingest.datasets'), hashtext('tables'))"


class Targets:
    """Looks at tables in the catalogue."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def check(self, dataset: str, plan: Plan) -> None:
        """Raise RequestError (E_DATASET_TABLE) when a table or a type of the plan is missing or does not fit.

        Missing tables of a shipped dataset are created by its script.
        """
        for target in plan.targets:
            columns = await self._columns(target)
            if not columns and (script := dataset_script(dataset)):
                await self._database.execute(f"{ONE_AT_A_TIME}; {script}")
                columns = await self._columns(target)
            await self._check_table(dataset, target, columns)
        await self._check_types(dataset, plan)

    async def are_keyed(self, plan: Plan) -> bool:
        """Tell whether records that are appended can collide with one another, or refer to one another."""
        for target in plan.targets:
            rows = await self._columns(target)
            if rows and {*rows[0]["order_columns"]} & {"", *(column for column, _ in target.columns)}:
                return True
        return False

    async def _columns(self, target: Target) -> list[Record]:
        return await self._database.fetch(statement("columns_of_table"), target.schema, target.table)

    async def _check_table(self, dataset: str, target: Target, columns: list[Record]) -> None:
        where = f"dataset {dataset} fills table {target.schema}.{target.table}"
        if not columns:
            raise _unfit(f"{where}, which does not exist: create it")
        given = {column for column, _ in target.columns}
        loadable = {row["name"] for row in columns if not row["generated"]}
        if unknown := sorted(given - loadable):
            raise _unfit(f"{where}, which has no column {shown(unknown)} that can be loaded")
        needed = {row["name"] for row in columns if row["not_null"] and not row["has_default"] and not row["generated"]}
        if missing := sorted(needed - given):
            raise _unfit(f"{where}, whose column {shown(missing)} must have a value that the file does not give")
        if target.merge is not Merge.APPEND:
            await self._check_key(where, target)

    async def _check_key(self, where: str, target: Target) -> None:
        keys = await self._database.fetch(statement("unique_keys"), target.schema, target.table)
        if sorted(target.key) not in [sorted(row["columns"]) for row in keys]:
            text = f"{where}, which has no unique index on its key ({', '.join(target.key)}): create one"
            raise _unfit(text)

    async def _check_types(self, dataset: str, plan: Plan) -> None:
        types = sorted({field.type for field in plan.fields})
        rows = await self._database.fetch(statement("unknown_types"), types)
        if rows:
            raise _unfit(
                f"dataset {dataset} uses the type {shown([row['name'] for row in rows])}, which does not exist"
            )


def _unfit(detail: str) -> RequestError:
    return RequestError(detail, code="E_DATASET_TABLE")
