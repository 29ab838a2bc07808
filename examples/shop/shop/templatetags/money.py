"""How prices are written."""

from decimal import Decimal

from django import template

register = template.Library()


@register.filter
def euros(amount: Decimal) -> str:
    """1234.5 → €1,234.50"""
    return f"€{amount:,.2f}"
