#!/usr/bin/env python3
"""Makes prices.csv: one made-up share, minute by minute, over ten trading days of 390 minutes.

Nothing here was ever traded. The price walks at random in steps of a cent, pulled gently towards a level that itself
changes from day to day; the seed is fixed, so the same file comes out each time:

    python3 make_prices.py > prices.csv
"""

import datetime
import random

random.seed(2026)

print("minute,cents,volume")
day = datetime.date(2026, 3, 2)
cents, level = 10_000.0, 10_000.0
for _ in range(10):
    while day.weekday() > 4:
        day += datetime.timedelta(days=1)
    level += random.gauss(0, 150)
    opening = datetime.datetime.combine(day, datetime.time(9, 30))
    for minute in range(390):
        cents += 0.01 * (level - cents) + random.gauss(0, 12)
        volume = 100 * (1 + int(random.expovariate(0.2)))
        print(f"{opening + datetime.timedelta(minutes=minute):%Y-%m-%dT%H:%M},{round(cents)},{volume}")
    day += datetime.timedelta(days=1)
