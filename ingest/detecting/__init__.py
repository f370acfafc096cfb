"""How a file is written, found out from its first bytes.

`detect_encoding` looks at the bytes as sent, `detect` at the same in UTF-8. Every delimiter, quote and escape that the
sample holds is tried (`candidates`): quoted fields are hidden (`masking`), lines and fields split, and the records
scored (`reading`) by how many have the same number of fields and by what the fields look like (`kinds`). Then the
table's header, preamble and footers are found (`layout`). A file with commas whose first line is what the dataset
expects is decided by that line alone, in about a third of a millisecond; others take 5 to 16 ms for 64 KiB.

How often that is right was measured on 502 files made by `tests/unit/detecting/labelled.py`, against DuckDB's
`sniff_csv` (2.0.0) and CleverCSV (0.8.5). `read` counts files whose header and records come out as they were written;
`divided` judges delimiter, quote and escape alone, as CleverCSV says nothing of what surrounds the records.
`python -m tests.unit.detecting.accuracy` prints it again, by kinds of files.

    ==========================  ====  =======
    502 files                   read  divided
    ==========================  ====  =======
    ours, columns expected       502      502
    ours                         499      499
    ours, else CleverCSV         498      498
    ours, else DuckDB            496      496
    CleverCSV                              445
    DuckDB                       338      409
    ==========================  ====  =======

In the last but two and three the other library decides where ours finds two ways equally good; it is wrong more often
than it helps, so neither is used. Of the three files that ours does not read as written it names both ways for two.
"""

from ingest.detecting.detection import Detected, detect, detect_at_once
from ingest.detecting.encoding import Encoding, detect_encoding
from ingest.detecting.records import sample_records

__all__ = ["Detected", "Encoding", "detect", "detect_at_once", "detect_encoding", "sample_records"]
