"""What tokens cost: price sheets and the arithmetic on them."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from pydantic import BaseModel, ConfigDict, Field

from pyfactory.errors import InvalidInputError, NotFoundError

__all__ = ["PriceSheet", "cost_per_million_tokens"]


class PriceSheet(BaseModel):
    """Cost per hour by machine.

    Attributes:
        currency: ISO 4217 code.
        as_of: The day the prices were written down.
        per_hour: Machine name -> price of one hour.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    currency: str = Field(pattern="^[A-Z]{3}$")
    as_of: date
    per_hour: dict[str, Decimal]

    def price(self, machine: str) -> Decimal:
        """Return the price of an hour of a machine.

        Raises:
            NotFoundError: The sheet does not list it.
        """
        if machine not in self.per_hour:
            raise NotFoundError(
                f"the price sheet has no machine {machine!r}", hint=f"it has {', '.join(sorted(self.per_hour))}"
            )
        return self.per_hour[machine]


def cost_per_million_tokens(price_per_hour: Decimal, tokens_per_second: float) -> Decimal:
    """Return the cost of 10^6 tokens at the rate that a machine of this hourly price sustains, stalls included."""
    if not tokens_per_second > 0:
        raise InvalidInputError(f"a rate of {tokens_per_second} tokens/s has no cost per token")
    return price_per_hour / Decimal(3600) / Decimal(str(tokens_per_second)) * 1_000_000
