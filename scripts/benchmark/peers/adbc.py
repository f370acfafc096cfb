"""Loads a CSV file with Apache Arrow: parsed by its reader on all processors, sent by ADBC as a binary COPY."""

from __future__ import annotations

import re
import sys

import adbc_driver_postgresql.dbapi
import pyarrow
import pyarrow.csv

TYPES = {
    "bigint": pyarrow.int64(),
    "integer": pyarrow.int32(),
    "text": pyarrow.string(),
    "date": pyarrow.date32(),
}
NUMERIC = re.compile(r"numeric\((\d+),(\d+)\)")

COLUMNS = """
select attname, format_type(atttypid, atttypmod) from pg_attribute
 where attrelid = '{}'::regclass and attnum > 0 and not attisdropped order by attnum
"""


def main(dsn: str, table: str, path: str) -> None:
    """Load the file whose header has the names of the table's columns, in their order."""
    with adbc_driver_postgresql.dbapi.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(COLUMNS.format(table))
        types = {name: arrow_type(sql_type) for name, sql_type in cursor.fetchall()}
        options = pyarrow.csv.ConvertOptions(column_types=types)
        blocks = pyarrow.csv.ReadOptions(block_size=1 << 22)
        with pyarrow.csv.open_csv(path, read_options=blocks, convert_options=options) as reader:
            cursor.adbc_ingest(table, reader, mode="append")
        connection.commit()


def arrow_type(sql_type: str) -> pyarrow.DataType:
    """Return Arrow's type for a column's."""
    if found := NUMERIC.fullmatch(sql_type):
        return pyarrow.decimal128(int(found[1]), int(found[2]))
    return TYPES[sql_type]


if __name__ == "__main__":
    main(*sys.argv[1:])
