"""A page of 100 KB of HTML as a shop's list is, the same each time: what is measured is how it is compressed (about a fifth)."""

WORDS = (
    "drum snare kettle string bow reed brass score stand pick strap case cable stool lamp shelf sheet maple walnut spruce felt "
    "horsehair gut nylon steel copper lacquer varnish hand made small large student concert travel used rare light warm bright "
    "dark loud soft from the with for and our best first new old a of in two four twelve without every only yours today"
).split()


class Dice:
    """A linear congruential generator (Numerical Recipes), so that the page is the same on every machine."""

    state = 1

    def roll(self, most: int) -> int:
        self.state = (self.state * 1_664_525 + 1_013_904_223) % (1 << 32)
        return (self.state >> 8) % most

    def words(self, count: int) -> str:
        return " ".join(WORDS[self.roll(len(WORDS))] for _ in range(count))


def row(dice: Dice) -> str:
    number, name = dice.roll(100_000), dice.words(3)
    return (
        f'<li class="product"><a href="/products/{number}-{name.replace(" ", "-")}/"><img src="/media/{dice.roll(1 << 30):08x}.webp" '
        f'alt=""><h3>{name.title()}</h3></a><p>{dice.words(24).capitalize()}.</p><span class="price">{dice.roll(900)}.'
        f'{dice.roll(100):02} €</span><form method="post"><input type="hidden" name="item" value="{number}">'
        f'<button>Add to cart</button></form></li>\n'
    )


def page(size: int) -> bytes:
    dice, rows = Dice(), []
    while sum(map(len, rows)) < size:
        rows.append(row(dice))
    return ("<!doctype html><html lang=en><title>Products</title><ul>\n" + "".join(rows) + "</ul></html>\n").encode()


BODY = page(100_000)
HEADERS = [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(BODY)))]


def app(environ, start_response):
    start_response("200 OK", HEADERS[:])
    return [BODY]
