"""Exports of crowdfunding platforms, made up by a fixed recipe: their columns, their ways of writing, their oddities.

The columns are those that the comment in sql/datasets/crowdfunding.toml names as known or inferred.
"""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

NAMES = ("Åsa Öberg", "Jean-Luc O'Neill", "María José Núñez", "王小明", 'Bob "Bobby" Tables', "Ng, Wei", "Zoë Smith")
REWARDS = ("The Game", "The Game, Deluxe", 'Collector\'s "Gold" Edition', "Digital PDF")
PRICES = {"The Game": 49, "The Game, Deluxe": 89, 'Collector\'s "Gold" Edition': 1249, "Digital PDF": 15}
COUNTRIES = (("SE", "Sweden"), ("US", "United States"), ("DE", "Germany"), ("JP", "Japan"))
START = datetime(2026, 1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Pledge:
    """One pledge, before a platform writes it down. `reward` is None for a pledge without one."""

    number: int
    email: str
    name: str
    reward: str | None
    amount: int
    shipping: int
    quantity: int
    country: tuple[str, str]
    answered: bool
    at: datetime


def pledges(count: int, seed: int = 1) -> Iterator[Pledge]:
    """Make pledges; about one in ten backers has a second one, one in twenty pledges has no reward."""
    pick = random.Random(seed)
    for number in range(1, count + 1):
        backer = number - pick.randint(1, number - 1) if number > 10 and pick.random() < 0.1 else number
        reward = None if pick.random() < 0.05 else pick.choice(REWARDS)
        quantity = pick.choice((1, 1, 1, 2, 5)) if reward else 1
        yield Pledge(
            number=number,
            email=f"backer{backer}+ks@example.com",
            name=NAMES[backer % len(NAMES)],
            reward=reward,
            amount=PRICES.get(reward or "", 1) * quantity + pick.randint(0, 20),
            shipping=pick.choice((0, 12)),
            quantity=quantity,
            country=COUNTRIES[backer % len(COUNTRIES)],
            answered=reward is not None and pick.random() < 0.8,
            at=START + timedelta(minutes=37 * number),
        )


def kickstarter(rows: list[Pledge]) -> str:
    """The backer report, with surveys sent: amounts with a sign, dates with slashes and a comma."""
    header = (
        "Backer Number", "Backer UID", "Backer Name", "Email", "Shipping Country", "Shipping Amount", "Reward Title",
        "Reward Minimum", "Reward ID", "Pledge Amount", "Pledged At", "Rewards Sent?", "Pledged Status", "Notes",
        "Billing State/Province", "Billing Country", "Survey Response", "Shipping Name", "Shipping Address 1",
        "Shipping Address 2", "Shipping City", "Shipping State", "Shipping Postal Code", "Shipping Country Name",
        "Shipping Country Code", "Shipping Phone Number", "Shipping Delivery Notes", "[Addon: 1] Dice, Metal",
    )  # fmt: skip

    def row(p: Pledge) -> tuple[object, ...]:
        address = (
            p.name,
            "1 Main St",
            "",
            "Springfield",
            "",
            f"0{p.number}",
            p.country[1],
            p.country[0],
            "+1 555 0100",
        )
        return (
            p.number, _uid(p), p.name, p.email, p.country[0], f"${p.shipping:,.2f}", p.reward or "No reward",
            f"${PRICES[p.reward]:,.2f}" if p.reward else "", _sku(p) or "", f"${p.amount:,.2f}", f"{p.at:%Y/%m/%d, %H:%M}",
            "Sent" if p.number % 3 == 0 else "", "collected", "", "", p.country[0],
            f"{p.at:%Y/%m/%d, %H:%M}" if p.answered else "", *(address if p.answered else [""] * 9), "", "",
        )  # fmt: skip

    return _written(header, map(row, rows))


def indiegogo(rows: list[Pledge]) -> str:
    """The contributions: item columns repeat, and are empty for most."""
    items = ("Item Name", "Item SKU", "Option 1", "Option 2", "Option 3")
    header = (
        "Order No.", "Pledge ID", "Referrer ID", "Fulfillment Status", "Funding Date", "Payment Method", "Appearance",
        "Name", "Email", "Amount", "Shipping Fees", "Platform Fee", "Transaction Fee", "Perk ID", "Perk",
        "Shipping Name", "Shipping Phone Number", "Shipping Address", "Shipping Address 2", "Shipping City",
        "Shipping State/Province", "Shipping Zip/Postal Code", "Shipping Country", "Carrier", "Tracking Number",
        *items, *items,
    )  # fmt: skip

    def row(p: Pledge) -> tuple[object, ...]:
        return (
            p.number, 50_000_000 + p.number, "", "Unfulfilled", f"{p.at:%Y-%m-%d %H:%M:%S +0000}", "Credit Card", "Visible",
            p.name, p.email, f"${p.amount:,.2f}", f"${p.shipping:,.2f}", "$1.00", "$0.50", _sku(p) or "", p.reward or "",
            p.name, "", "1 Main St", "", "Springfield", "", f"0{p.number}", p.country[1], "", "", *[""] * 10,
        )  # fmt: skip

    return _written(header, map(row, rows))


def backerkit(rows: list[Pledge]) -> str:
    """Backers with the state of their surveys, in the words of its screens."""
    header = (
        "Pledge ID", "Name", "Email", "Pledge Level", "Quantity", "Pledge Amount", "Shipping Cost", "Pledge Status",
        "Survey Status", "Survey Answered At", "Shipping Name", "Shipping Address 1", "Shipping City",
        "Shipping Postal Code", "Shipping Country", "Question: which colour?",
    )  # fmt: skip

    def row(p: Pledge) -> tuple[object, ...]:
        return (
            f"BK{p.number:06}", p.name, p.email, p.reward or "", p.quantity, f"{p.amount:,.2f}", f"{p.shipping:.2f}", "Paid",
            "Completed" if p.answered else "Not Answered", f"{p.at:%Y-%m-%d %H:%M:%S UTC}" if p.answered else "",
            p.name, "1 Main St", "Springfield", f"0{p.number}", p.country[1], "red",
        )  # fmt: skip

    return _written(header, map(row, rows))


def gamefound(rows: list[Pledge]) -> str:
    """Orders, one record a product, under names without blanks."""
    header = (
        "OrderPublicID", "OrderCode", "CustomerName", "CustomerEmail", "ProductName", "SKU", "Quantity", "ProductPrice",
        "TotalAmount", "ShippingCost", "Currency", "PaymentStatus", "ShippingStage", "CreatedAt", "PledgeManagerStatus",
        "RecipientName", "AddressLine1", "City", "ZipCode", "CountryCode",
    )  # fmt: skip

    def row(p: Pledge) -> tuple[object, ...]:
        return (
            f"GF-{p.number}", f"c{p.number}", p.name, p.email, p.reward or "", _sku(p) or "", p.quantity,
            f"{PRICES[p.reward]:.2f}" if p.reward else "", f"{p.amount:.2f}", f"{p.shipping:.2f}", "USD", "Completed", "New",
            f"{p.at:%Y-%m-%dT%H:%M:%SZ}", "Finished" if p.answered else "Not invited", p.name, "1 Main St", "Springfield",
            f"0{p.number}", p.country[0],
        )  # fmt: skip

    return _written(header, map(row, rows))


PLATFORMS: dict[str, Callable[[list[Pledge]], str]] = {
    "kickstarter": kickstarter,
    "indiegogo": indiegogo,
    "backerkit": backerkit,
    "gamefound": gamefound,
}


def counts(platform: str, rows: list[Pledge]) -> dict[str, int]:
    """How many rows each table must have afterwards. Indiegogo has no surveys, Kickstarter only answered ones."""
    with_reward = [p for p in rows if p.reward]
    surveys = {"indiegogo": 0, "kickstarter": sum(p.answered for p in rows)}
    return {
        "backers": len({p.email for p in rows}),
        "products": len({p.reward for p in with_reward}),
        "pledges": len(rows),
        "surveys": surveys.get(platform, len(rows)),
        "inventory": len(with_reward),
    }


def _uid(pledge: Pledge) -> int:
    return 1_000_000 + int(pledge.email.removeprefix("backer").split("+")[0])


def _sku(pledge: Pledge) -> int | None:
    return 7000 + REWARDS.index(pledge.reward) if pledge.reward else None


def _written(header: tuple[str, ...], rows: Iterator[tuple[object, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
