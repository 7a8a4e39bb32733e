"""Books a trip: a stand-in for a shop that takes money. Usage: python3 book.py TRIP PEOPLE"""

import json
import sys
from pathlib import Path

trip, people = sys.argv[1], int(sys.argv[2])
offers = {offer["trip"]: offer for offer in json.loads(Path("offers.json").read_text())}
if trip not in offers or people < 1:
    sys.exit(f"no trip {trip!r} for {people}; there are {', '.join(offers)}")
booking = {"trip": trip, "people": people, "total": offers[trip]["price"] * people}
Path("booking.json").write_text(json.dumps(booking) + "\n")
print(f"booked: {trip} for {people}, {booking['total']} francs")
