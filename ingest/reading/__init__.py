"""Reading a file as its dialect has it: what COPY can read is left to COPY, the rest is found out here.

    transcoding  a file in any encoding -> UTF-8, while it arrives, and back to the bytes as they were sent
    marking      a block of bytes -> where its records end and what is quoted
    batches      records -> how many of them make a batch, and where it ends
    strays       whether a quote may stand elsewhere than around a field
    mending      a quote that swallows lines costs its own line, not those after it
    kinds        what the first bytes of a file are, if not CSV
    names        a header -> the names of the columns
    footers      the last lines of a file, kept back
    records      a batch -> where its records are
    tokens       one record -> its fields, of any dialect, strictly or as somebody may have meant it
    canonical    the records of a batch -> the same records as COPY reads them, and where each of them came from

Pure: bytes in, values out.
"""
