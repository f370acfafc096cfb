"""What a dataset says about its files, and what a header makes of it. Pure: files and catalogue are read elsewhere.

text      a definition from its TOML text, or every mistake in it, each with its line (`tomlline`)
model     a definition as values
checks    what must hold between its parts
names     how names of columns are compared
matching  a header and a dataset's names -> which column is which
planning  a definition and a header -> the plan of a load (`ingest.spec`)
defined   a version of a definition as a dataset; `tables`: a plain table as one
detection `dataset=auto`: which definition a header belongs to
preview   the first bytes of a file: how they are read, what is wrong; `infer`: a definition suggested from them
"""
