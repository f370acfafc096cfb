"""A field of a plan -> SQL: the steps from a cell's text to a value, and the conditions that reject its record.

Every step is cheap and set-based; nothing here knows of targets. Names in the SQL hold a colon, so that they are never
the name of a field, which an expression of the dataset may use.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from ingest.database import quoted
from ingest.formats import parse_format
from ingest.formula import UNGUARDED_SQL
from ingest.loading.asking import ANY_TEXT
from ingest.loading.staging import literal
from ingest.spec import Check, Field, Rule, RuleKind

# What trim removes: the blanks that people, spreadsheets and web pages leave at the ends.
BLANKS = " \t\r\n\u00a0\u200b\ufeff"
MOVING = "(^|[^a-z])(now|today|tomorrow|yesterday)([^a-z]|$)"
# Dates, times and timestamps, arrays and ranges of them.
DATE_TYPES = ("date", "time", "tsr", "tstz", "tsm")
# One @ with something on both sides, a dot in the domain, no blanks. More only the mail server knows.
EMAIL = r"^[^\s@]+@[^\s@.]+(\.[^\s@.]+)+$"

SOFT_ERRORS_SINCE = 16
COMPARED = {RuleKind.MIN: ("<", "less"), RuleKind.MAX: (">", "more")}
MEASURED = {RuleKind.MIN_LENGTH: ("<", "shorter"), RuleKind.MAX_LENGTH: (">", "longer")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why a record may be rejected: SQL that is true then. `message` None: PostgreSQL is asked about value and type.

    `fields` are those at fault, none when it is the whole record. A `built_in` message has their names put before it.
    """

    condition: str
    fields: tuple[Field, ...]
    code: str
    message: str | None
    built_in: bool = True
    sqlstate: str | None = None


class Form(StrEnum):
    """How a field's value comes out of the staging table."""

    VALUE = "value"  # it is there, or a constant
    TEXT = "text"  # one expression makes it of a text, any text
    JUDGED = "judged"  # step by step, and only of a text that is found to be one


@dataclass(frozen=True, slots=True)
class Steps:
    """The SQL names of field number `number`'s steps: trimmed text, plain text, number of its early fault, value.

    A field that is not JUDGED has a value only.
    """

    field: Field
    number: int
    form: Form

    @property
    def staged(self) -> str:
        """The column of the staging table."""
        return f"c{(self.field.position or 0) + 1}"

    @property
    def trimmed(self) -> str:
        """The cell without blanks around it, NULL where it means nothing."""
        return f'"t:{self.number}"'

    @property
    def plain(self) -> str:
        """The text that PostgreSQL is to read."""
        return f'"p:{self.number}"'

    @property
    def early(self) -> str:
        """The number of the fault that keeps the text from becoming a value, or NULL."""
        return f'"e:{self.number}"'

    @property
    def sound(self) -> str:
        """The condition that the text is a value, to be put before another one."""
        return f"{self.early} IS NULL AND " if self.form is Form.JUDGED else ""

    @property
    def value(self) -> str:
        """The value, under the field's own name."""
        return quoted(self.field.name)

    def trimmed_sql(self, *, unguard: bool) -> str:
        """Return how the trimmed text comes from the staging table; `unguard` undoes what an export did to formulas."""
        field = self.field
        if field.position is None:
            return "NULL::text" if field.constant is None else literal(field.constant)
        text = self.staged
        if unguard:
            text = UNGUARDED_SQL.format(text=text)
        if field.trim:
            text = f"nullif(btrim({text}, {literal(BLANKS)}), '')"
        nulls = [literal(null.lower()) for null in field.nulls if null]
        if nulls:
            text = f"CASE WHEN lower({text}) NOT IN ({', '.join(nulls)}) THEN {text} END"
        return f"nullif({text}, '')" if "" in field.nulls and not field.trim else text

    def plain_sql(self) -> str:
        """Return how the plain text comes from the trimmed one."""
        return self._plain(self.trimmed)

    def _plain(self, trimmed: str) -> str:
        field, text = self.field, trimmed
        if field.format:
            for pattern, replacement in parse_format(field.format, field.type).replacements:
                text = f"regexp_replace({text}, {literal(pattern)}, {literal(replacement)}, 'g')"
        if field.words:
            cases = " ".join(f"WHEN {literal(word.lower())} THEN {literal(value)}" for word, value in field.words)
            text = f"CASE lower({trimmed}) {cases} ELSE {text} END"
        return text if field.default is None else f"coalesce({text}, {literal(field.default)})"

    def early_faults(self, server_major: int, *, moving_dates: bool) -> list[Fault]:
        """Return what may keep the text from becoming a value; only the first that holds is reported.

        `moving_dates`: whether the batch holds one of the words at all, which is found out faster than by SQL.
        """
        field, faults = self.field, []
        if field.format:
            unlike = f"{self.trimmed} !~ {literal(parse_format(field.format, field.type).pattern)}"
            if field.words:  # which are not written like it either
                words = ", ".join(literal(word.lower()) for word, _ in field.words)
                unlike += f" AND lower({self.trimmed}) NOT IN ({words})"
            faults.append(self._fault(unlike, "E_FORMAT", f"is not written like {field.format}"))
        if moving_dates and field.type.startswith(DATE_TYPES):
            moving = "is a moving date: it means another day each time it is read"
            faults.append(self._fault(f"{self.plain} ~* {literal(MOVING)}", "E_DATE_SPECIAL", moving))
        if field.type not in ANY_TEXT:
            valid = "pg_input_is_valid" if server_major >= SOFT_ERRORS_SINCE else "ingest.input_is_valid"
            condition = f"NOT {valid}({self.plain}, {literal(field.type)})"
            faults.append(Fault(condition=condition, fields=(field,), code="E_TYPE", message=None))
        return faults

    def value_sql(self, *, unguard: bool) -> str:
        """Return how the value comes from the plain text, or from the staging table; `unguard` as for `trimmed_sql`."""
        field = self.field
        if self.form is Form.JUDGED:
            return f"CASE WHEN {self.early} IS NULL THEN {self._cast(self.plain)} END"
        if self.form is Form.TEXT:
            return self._cast(self._plain(self.trimmed_sql(unguard=unguard)))
        if field.position is not None:
            return self.staged
        return f"{'NULL' if field.constant is None else literal(field.constant)}::{field.type}"

    def _cast(self, text: str) -> str:
        return text if self.field.type == "text" else f"{text}::{self.field.type}"

    def late_faults(self) -> list[Fault]:
        """Return what may be wrong with a text that is a value; all that hold are reported."""
        faults = [self._rule_fault(rule) for rule in self.field.rules]
        if self.field.required:
            condition = f"{self.sound}{self.value} IS NULL"
            faults.append(self._fault(condition, "E_NOT_NULL", "is empty, but must have a value"))
        return faults

    def _rule_fault(self, rule: Rule) -> Fault:
        condition, message = self._rule(rule)
        return replace(self._fault(condition, "E_RULE", rule.message or message), built_in=rule.message is None)

    def _rule(self, rule: Rule) -> tuple[str, str]:
        text = f"{self.value}::text"
        match rule.kind:
            case RuleKind.MIN | RuleKind.MAX:
                sign, word = COMPARED[rule.kind]
                limit = rule.arguments[0]
                return f"{self.value} {sign} {literal(limit)}::{self.field.type}", f"must not be {word} than {limit}"
            case RuleKind.MIN_LENGTH | RuleKind.MAX_LENGTH:
                sign, word = MEASURED[rule.kind]
                length = int(rule.arguments[0])
                return f"char_length({text}) {sign} {length}", f"must not be {word} than {length} characters"
            case RuleKind.PATTERN:
                return f"{text} !~ {literal(f'^(?:{rule.arguments[0]})$')}", f"must match {rule.arguments[0]}"
            case RuleKind.ONE_OF:
                words = ", ".join(literal(word) for word in rule.arguments)
                return f"{text} NOT IN ({words})", f"must be one of {', '.join(rule.arguments)}"
            case RuleKind.EMAIL:
                return f"{text} !~ {literal(EMAIL)}", "is not an e-mail address"

    def _fault(self, condition: str, code: str, message: str) -> Fault:
        return Fault(condition=condition, fields=(self.field,), code=code, message=message)


def steps_of(field: Field, number: int, values: frozenset[int] | None) -> Steps:
    """Return the steps of a field where the columns of the staging table at the places `values` hold values.

    None: all columns hold texts, and what the job gives is judged like them.
    """
    if values is not None and (field.position is None or field.position in values):
        return Steps(field, number, Form.VALUE)
    any_text = field.type in ANY_TEXT and field.position is not None and not (field.format or field.words)
    return Steps(field, number, Form.TEXT if any_text else Form.JUDGED)


def check_fault(check: Check) -> Fault:
    """Return what is wrong with a record for which a check of the plan does not hold."""
    message = check.message or f"the rule {check.name} does not hold"
    return Fault(condition=f"NOT ({check.expression})", fields=(), code="E_RULE", message=message)
