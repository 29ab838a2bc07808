"""TABLE of categories, and of the words their goods are named with.

`goods` are (kind of drawing, noun, lowest price, highest price). A name is `{adjective} {noun}` by a maker, for
records and sheet music a title by an artist. All makers, artists and titles are invented.
"""

from dataclasses import dataclass

Goods = tuple[str, str, int, int]


@dataclass(frozen=True)
class Shelf:
    slug: str
    name: str
    tagline: str
    share: int
    """Products of this category in a hundred."""
    goods: list[Goods]
    makers: list[str]
    adjectives: list[str]
    sentences: list[str]


STRING_MAKERS = ["Larkspur & Sons", "Halvorsen", "Casa Mirador", "Blue Heron", "Tannenbaum", "Old Mill Lutherie"]
WIND_MAKERS = ["Fanfare Brothers", "Morgenrot", "Aulos & Daughter", "Kingfisher", "Belcanto Works", "St. Cecilia"]
LABELS = [
    "The Velvet Kiosk", "Marigold Sundays", "Nina Aldous Trio", "Harbour Radio", "Les Petits Orages", "Tin Roof Choir",
    "Otto Lindqvist", "Paper Lanterns", "The Slow Elevators", "Amparo Vidal", "Sister Gravity", "Northbound Ensemble",
]
TITLES = [
    "Rain on the Bandstand", "Seven Small Hours", "Letters to a Lighthouse", "Tramline Serenade", "Salt and Brass",
    "A Room with No Ceiling", "Good Weather for Ghosts", "Sunday, Slowly", "The Gardener's Waltz", "Night Bus Nocturne",
    "Copper Moon", "Postcards from the Interval", "Half Past Summer", "Borrowed Umbrellas", "Festival of Small Lights",
    "Under the Chestnut Trees", "Kites", "Dances for a Narrow Kitchen", "The Ferryman's Songbook", "Orange Peel Blues",
]

SHELVES = [
    Shelf(
        "strings", "Guitars & strings", "Six strings, four strings, and the wood that remembers them", 17,
        [("guitar", "Parlour Guitar", 249, 890), ("guitar", "Dreadnought", 320, 1490), ("guitar", "Concert Ukulele", 59, 220),
         ("electric", "Electric Guitar", 290, 1650), ("electric", "Short-Scale Bass", 310, 990), ("electric", "Baritone Guitar", 450, 1290),
         ("violin", "Violin", 180, 2400), ("violin", "Viola", 260, 2600)],
        STRING_MAKERS,
        ["Meadow", "Midnight", "Sailor's", "Copperleaf", "Riverbend", "Boulevard", "Honeydew", "Juniper", "Wayfarer", "Saturday"],
        ["Light in the hand, with a warm middle and a top that opens up after a week of playing.",
         "Set up by hand in our workshop, with a low action and frets that do not bite.",
         "Quiet enough for a kitchen at midnight, loud enough for the back row."],
    ),
    Shelf(
        "keys", "Keys & synths", "From upright manners to square waves", 11,
        [("keys", "Stage Piano", 590, 1990), ("keys", "Analogue Synth", 340, 1850), ("keys", "Organ", 420, 1690), ("keys", "Travel Keyboard", 79, 340)],
        ["Polaris Audio", "Werkstatt Nord", "Ohm & Daughters", "Lumen", "Bellweather", "Quartz City"],
        ["Aurora", "Cinema", "Greenhouse", "Observatory", "Velvet", "Paperback", "Monsoon", "Tangerine", "Weekend", "Satellite"],
        ["Weighted where it matters and simple everywhere else: one knob, one thing.",
         "Starts in two seconds, stays in tune, and remembers what you did last night.",
         "Comes with forty sounds that you will use, and none that you will not."],
    ),
    Shelf(
        "drums", "Drums & percussion", "For those who arrive on time, and those who say when that is", 12,
        [("drum", "Snare Drum", 140, 690), ("drum", "Floor Tom", 160, 620), ("drum", "Tambour", 45, 190),
         ("cymbal", "Ride Cymbal", 150, 520), ("cymbal", "Crash Cymbal", 120, 430), ("cymbal", "Hi-Hat Pair", 170, 540)],
        ["Thunderhill", "Pocket Percussion", "Kessel & Klang", "Marchbanks", "Clave Sur", "Big Parade"],
        ["Parade", "Hailstone", "Ballroom", "Sandpaper", "Market Day", "Heartbeat", "Gravel", "Confetti", "Timber", "Carnival"],
        ["Dry and friendly, with a crack that cuts through any rehearsal room.",
         "Hammered, turned and argued over by three people who all play.",
         "Speaks at a whisper and keeps its temper when you lose yours."],
    ),
    Shelf(
        "winds", "Brass & woodwind", "Long breath, bright morning", 12,
        [("trumpet", "Trumpet", 220, 1690), ("trumpet", "Cornet", 260, 1420), ("trumpet", "Flugelhorn", 420, 1890),
         ("reed", "Clarinet", 190, 1590), ("reed", "Oboe", 590, 2800), ("reed", "Tenor Recorder", 49, 240)],
        WIND_MAKERS,
        ["Daybreak", "Promenade", "Lakeside", "Minaret", "Garland", "Carousel", "Sunflower", "Gazebo", "Regatta", "Evensong"],
        ["An even scale from the cellar to the attic, and an easy start for tired lips.",
         "Every pad and valve is checked by somebody who would rather be playing.",
         "Bright outdoors, round indoors: built for parks on Sunday mornings."],
    ),
    Shelf(
        "records", "Records", "Black circles, big pictures, two sides to everything", 20,
        [("record", "LP", 18, 34), ("record", "Double LP", 28, 46), ("record", "10-inch", 14, 22)],
        LABELS, TITLES,
        ["Recorded in four days with the windows open; listen for the swifts on side two.",
         "A record for the hour after the guests have left.",
         "Pressed on heavy vinyl, with liner notes by the band's neighbour."],
    ),
    Shelf(
        "sheet-music", "Sheet music", "Little black dots, patiently explained", 12,
        [("sheet", "for Piano", 9, 24), ("sheet", "for String Quartet", 18, 42), ("sheet", "for Brass Band", 24, 65), ("sheet", "Songbook", 14, 29)],
        LABELS, TITLES,
        ["Large print, good paper, and page turns where you have a hand free.",
         "With fingerings by players, not by committees; grades 3 to 6.",
         "The second edition, without the famous wrong note in bar 41."],
    ),
    Shelf(
        "studio", "Studio & sound", "Catch it, turn it up, let it go", 9,
        [("microphone", "Microphone", 79, 690), ("headphones", "Headphones", 49, 390), ("speaker", "Monitor Speaker", 140, 890), ("speaker", "Practice Amp", 99, 540)],
        ["Polaris Audio", "Hushworks", "Lumen", "Radio Garden", "Ohm & Daughters", "Attic Sound"],
        ["Confidant", "Postmaster", "Lantern", "Foghorn", "Whisper", "Alcove", "Signal", "Reporter", "Cupboard", "Skylight"],
        ["Honest to a fault: you will hear the chair creak, and then you will move the chair.",
         "Made for long evenings: light, repairable, every part to be had from us.",
         "Sounds like a bigger room than the one you can afford."],
    ),
    Shelf(
        "small-things", "Small things", "What you forgot last time", 7,
        [("metronome", "Metronome", 24, 95), ("fork", "Tuning Fork", 9, 32), ("picks", "Set of Picks", 5, 16)],
        ["Pocket Percussion", "Old Mill Lutherie", "Tick & Son", "St. Cecilia", "Marchbanks"],
        ["Steady", "Pocket", "Conductor's", "Schoolroom", "Patient", "Sunday", "Featherweight", "Lucky", "Traveller's", "Plain"],
        ["Fits any case, survives any floor.",
         "The thing everybody borrows and nobody gives back: buy two.",
         "Plain, exact, and good company."],
    ),
]

CLOSINGS = [
    "Two years of guarantee, thirty days to change your mind.",
    "Come in and try it: the kettle is on.",
    "We pack it ourselves, and we know how couriers drive.",
    "Ask for Ines at the counter; she plays one.",
]

CUSTOMERS = [
    ("Mara Lindgren", "Lindenstraße 14", "10969", "Berlin", "DE"),
    ("Théo Marchand", "12 rue des Lilas", "69003", "Lyon", "FR"),
    ("Aoife Brennan", "3 Harbour Row", "H91 E2K4", "Galway", "IE"),
    ("Pieter de Wit", "Prinsengracht 201", "1016 HC", "Amsterdam", "NL"),
    ("Lucía Romero", "Calle de la Luna 8", "28004", "Madrid", "ES"),
]
