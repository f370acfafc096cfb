"""Request options: each value that is allowed, each that is not, and which one is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.budget import Budget
from ingest.definitions.checks import REQUEST_OPTIONS
from ingest.errors import RequestError
from ingest.job import JobMode, JobState
from ingest.receiving import UploadOptions
from ingest.web import options


def upload(**values: str) -> UploadOptions:
    """Return the options of an upload of dataset t."""
    return options.upload_options({"dataset": "t", **values}, filename="f.csv", bytes_total=None)


def test_defaults() -> None:
    """A dataset is all that is needed."""
    made = options.upload_options({"dataset": "t"}, filename="f.csv", bytes_total=7)
    assert (made.dataset, made.filename, made.priority, made.bytes_total) == ("t", "f.csv", 5, 7)
    assert made.dialect.to_json() == {"delimiter": ",", "quote": '"', "null": ""}


def test_mode_budget_and_parent_are_read() -> None:
    """The budget as a count or as a share."""
    parent = "01990000-0000-7000-8000-000000000000"
    made = upload(mode="validate", max_rejects="5%", parent=parent)
    assert (made.mode, made.budget, str(made.parent_id)) == (JobMode.VALIDATE, Budget(percent=5.0), parent)
    made = upload(max_rejects="0")
    assert (made.mode, made.budget, made.parent_id) == (JobMode.BATCHES, Budget(rejects=0), None)


@pytest.mark.parametrize("text", ["tab", r"\t", "\t"])
def test_a_tab_has_three_spellings(text: str) -> None:
    """The word, the escape and the character."""
    made = options.upload_options({"dataset": "t", "delimiter": text}, filename="f", bytes_total=None)
    assert made.dialect.delimiter == "\t"


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("dataset", "", "E_OPTION"),
        ("delimiter", "", "E_OPTION"),
        ("delimiter", "a1", "E_OPTION"),
        ("delimiter", "é", "E_OPTION"),
        ("delimiter", '"', "E_OPTION"),
        ("quote", ",", "E_OPTION"),
        ("null", "a,b", "E_OPTION"),
        ("priority", "10", "E_OPTION"),
        ("priority", "-1", "E_OPTION"),
        ("priority", "", "E_OPTION"),
        ("priority", "٣", "E_OPTION"),
        ("load", "now", "E_OPTION"),
        ("load", "later", "E_OPTION"),
        ("max_rejects", "", "E_OPTION"),
        ("max_rejects", "-1", "E_OPTION"),
        ("max_rejects", "101%", "E_OPTION"),
        ("parent", "", "E_OPTION"),
        ("parent", "1", "E_OPTION"),
        ("parent", "{01990000-0000-7000-8000-000000000000}", "E_OPTION"),
        ("mode", "fast", "E_OPTION"),
    ],
)
def test_a_wrong_value_names_its_option(name: str, value: str, code: str) -> None:
    """In the facts of the problem."""
    with pytest.raises(RequestError) as caught:
        upload(**{name: value})
    assert caught.value.code == code
    assert caught.value.facts["option"] in (name, "delimiter")


@pytest.mark.parametrize("text", ["a=1&a=2", "b=1", "a=%ff", "a=\x00", "a=%0a", "a=" + "x" * 501, "&".join(["a"] * 60)])
def test_a_query_is_refused(text: str) -> None:
    """When something is repeated, unknown, unreadable or too much."""
    with pytest.raises(RequestError) as caught:
        options.query(text.encode(), ("a",))
    assert caught.value.code == "E_OPTION"


def test_a_query_is_read() -> None:
    """Percent-decoded, empty values kept."""
    assert options.query(b"a=%C3%A9+b&b=&c=%09", ("a", "b", "c")) == {"a": "é b", "b": "", "c": "\t"}
    assert options.query(b"", ()) == {}


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("a.csv", "a.csv"),
        ("/etc/passwd", "passwd"),
        ("C:\\data\\a b.csv", "a b.csv"),
        ("a\x00\n\x1b[31m.csv", "a[31m.csv"),
        ("\u202egpj.csv", "gpj.csv"),
        ("é" * 300, "é" * 255),
        ("..", ".."),
        ("a/", ""),
    ],
)
def test_a_file_name_is_a_label(name: str, label: str) -> None:
    """No folders, nothing unprintable, not too long."""
    assert options.label(name) == label


@given(st.text())
def test_a_label_is_always_harmless(name: str) -> None:
    """Whatever a client calls its file."""
    label = options.label(name)
    assert len(label) <= 255
    assert label.isprintable()
    assert "/" not in label
    label.encode()


def test_a_path_label_is_decoded() -> None:
    """Percent-encoding is the URL's; a name is needed there."""
    assert options.path_label(b"f%C3%A9%20%2Fx.csv") == "x.csv"
    with pytest.raises(RequestError) as caught:
        options.path_label(b"%00")
    assert caught.value.code == "E_FILENAME"


def test_pages_and_states() -> None:
    """Defaults, and words that are states."""
    assert options.page({}) == (1, 10)
    assert options.page({"page": "2", "limit": "500"}) == (2, 500)
    assert options.status({}) is options.status({"status": ""}) is None
    assert options.status({"status": "failed"}) is JobState.FAILED
    with pytest.raises(RequestError) as caught:
        options.status({"status": "gone"})
    assert "failed" in str(caught.value.facts["allowed"])


def test_other_options_are_the_datasets_parameters() -> None:
    """Where a request may have them, and if they could be one."""
    made = options.upload_options({"dataset": "t", "shop": "s"}, filename="f", bytes_total=None)
    assert made.parameters == {"shop": "s"}
    assert options.query(b"a=1&shop=2", ("a",), others=True) == {"a": "1", "shop": "2"}
    for query in (b"shop", b"Shop=1", b"sh-op=1", b"shop=%00", b"a=1&shop=1&shop=2"):
        with pytest.raises(RequestError):
            options.query(query, ("a",), others=query != b"shop")


def test_no_parameter_can_be_called_like_an_option() -> None:
    """The check of definitions knows them all."""
    assert {*options.UPLOAD_OPTIONS} <= REQUEST_OPTIONS
