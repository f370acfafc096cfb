"""Benchmarks that compare: this service and its peers on the same files and the same PostgreSQL, taking turns.

`__main__` is the command; `contest` lets contenders take turns, `measuring` says what a turn cost, `loads`, `uploads`,
`small`, `memory`, `scaling` and `resting` say what is raced, `report` and `plots` show it. `peers` are programs of
their own, so that what they use can be measured as it is for anybody else's.
"""
