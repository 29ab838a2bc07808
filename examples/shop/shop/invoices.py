"""Invoices as PDF files, written by hand: text in Helvetica, a few rules, nothing a library is needed for.

An invoice is made when it is first asked for and then kept under PRIVATE_ROOT, which no web server shows; an
order never changes, so neither does its invoice. Source: ISO 32000-1, §7.5 (file), §8 and §9 (page content).
"""

import os
import tempfile
from pathlib import Path

from django.conf import settings

from .models import Order
from .templatetags.money import euros

WIDTH, HEIGHT = 595, 842
"""A4, in points."""

LINES_A_PAGE = 24
LEFT, RIGHT = 56, WIDTH - 56


def written(order: Order) -> Path:
    """The file of an order's invoice; whoever asks second gets what the first wrote."""
    path = settings.PRIVATE_ROOT / "invoices" / f"invoice-{order.reference}.pdf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as draft:
            draft.write(pdf(order))
        os.replace(draft.name, path)
    return path


def pdf(order: Order) -> bytes:
    lines = list(order.lines.all())
    groups = [lines[i : i + LINES_A_PAGE] for i in range(0, len(lines), LINES_A_PAGE)] or [[]]
    pages = [_page(order, group, number, len(groups)) for number, group in enumerate(groups, 1)]
    return _file(pages)


def _page(order: Order, lines, number: int, of: int) -> bytes:
    page = [f"0.075 0.25 0.22 rg 0 {HEIGHT - 96} {WIDTH} 96 re f"]
    page += [f"{0.85 if i % 2 else 0.98} {0.29 if i % 2 else 0.95} {0.18 if i % 2 else 0.88} rg {i * 35} {HEIGHT - 104} 35 8 re f" for i in range(17)]
    page += ["1 1 1 rg", _text(LEFT, 786, 22, "Bandstand Music", bold=True), _text(LEFT, 768, 10, "Instruments, records and sheet music")]
    page += ["0.13 0.15 0.18 rg", _text(LEFT, 690, 18, f"Invoice {order.reference}", bold=True)]
    page.append(_text(LEFT, 672, 10, f"{order.created:%d %B %Y}   Page {number} of {of}"))
    town = f"{order.postcode} {order.city}"
    for i, text in enumerate((order.name, order.address, town, order.get_country_display())):
        page.append(_text(360, 690 - i * 14, 10, text))
    y = 600
    page += [_text(LEFT, y, 9, "Qty", bold=True), _text(LEFT + 36, y, 9, "Item", bold=True), _text(RIGHT, y, 9, "Amount", bold=True, right=True)]
    page.append(_rule(y - 6))
    for line in lines:
        y -= 18
        page += [_text(LEFT, y, 10, str(line.quantity)), _text(LEFT + 36, y, 10, line.name[:64]), _text(RIGHT, y, 10, euros(line.total), right=True)]
    if number == of:
        page.append(_rule(y - 10))
        for label, amount, bold in (("Goods", order.goods, False), ("Shipping", order.shipping, False), ("Total", order.total, True)):
            y -= 26 if label == "Goods" else 18
            page += [_text(380, y, 10, label, bold), _text(RIGHT, y, 10, euros(amount), bold, right=True)]
    page.append(_text(LEFT, 48, 8, "Nothing here is really for sale: this shop is an example. Prices with VAT."))
    return "\n".join(page).encode("cp1252", "replace")


def _text(x: float, y: float, size: int, text: str, bold: bool = False, right: bool = False) -> str:
    if right:
        x -= sum(_WIDTHS.get(letter, 0.58) for letter in text) * size * (1.06 if bold and text[0].isalpha() else 1)
    # What Windows-1252 lacks becomes a question mark; controls and the three signs of PDF strings must go.
    safe = "".join(letter if letter.isprintable() else " " for letter in text)
    safe = safe.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return f"BT /F{2 if bold else 1} {size} Tf {x:.2f} {y:.2f} Td ({safe}) Tj ET"


def _rule(y: float) -> str:
    return f"0.7 G 0.6 w {LEFT} {y} m {RIGHT} {y} l S"


# Widths of Helvetica in ems, for the letters of amounts.
_WIDTHS = dict.fromkeys("0123456789€", 0.556) | dict.fromkeys(",.", 0.278)


def _file(pages: list[bytes]) -> bytes:
    """The objects, one after another, and the table of where each begins."""
    font = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica{} /Encoding /WinAnsiEncoding >>"
    kids = " ".join(f"{5 + 2 * i} 0 R" for i in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        font.format("").encode(),
        font.format("-Bold").encode(),
    ]
    for i, page in enumerate(pages):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {WIDTH} {HEIGHT}] /Contents {6 + 2 * i} 0 R "
            "/Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> >>".encode()
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(page), page))
    out, offsets = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"), []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
    return bytes(out)
