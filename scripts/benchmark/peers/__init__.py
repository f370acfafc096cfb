"""Peers that are Python programs, each written as one would write it who wants it fast."""
