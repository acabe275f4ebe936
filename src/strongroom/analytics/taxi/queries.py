"""What to ask of the trips: the reference's own query, and real ones."""

from typing import Final

QUERIES: Final = {
    "count": "SELECT count(*) AS trips FROM trips",
    "by-month": """
        SELECT puYear, puMonth, count(*) AS trips, round(avg(fareAmount), 2) AS fare,
               round(sum(totalAmount), 2) AS total
        FROM trips WHERE puYear BETWEEN 2009 AND 2018
        GROUP BY puYear, puMonth ORDER BY puYear, puMonth""",
    "by-hour": """
        SELECT hour(tpepPickupDateTime) AS hour, count(*) AS trips, round(avg(tripDistance), 2) AS miles
        FROM trips GROUP BY hour(tpepPickupDateTime) ORDER BY hour""",
    "tips": """
        SELECT paymentType, count(*) AS trips, round(avg(tipAmount), 2) AS tip,
               round(100 * sum(tipAmount) / sum(fareAmount), 1) AS percent
        FROM trips WHERE fareAmount > 0 GROUP BY paymentType ORDER BY trips DESC""",
    "fare-growth": """
        SELECT puYear, fare, round(fare - lag(fare) OVER (ORDER BY puYear), 2) AS change
        FROM (SELECT puYear, round(avg(fareAmount), 2) AS fare FROM trips
              WHERE puYear BETWEEN 2009 AND 2018 GROUP BY puYear) AS years
        ORDER BY puYear""",
    "by-borough": """
        SELECT z.borough, count(*) AS trips, round(avg(t.totalAmount), 2) AS total
        FROM trips AS t JOIN zones AS z ON t.puLocationId = z.locationId
        GROUP BY z.borough ORDER BY trips DESC""",
}
"""SQL that the embedded engine and Spark both understand; "by-borough" needs the table `zones` too."""
