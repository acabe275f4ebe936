SELECT z.borough, count(*) AS trips, round(avg(t.totalAmount), 2) AS total
FROM trips AS t JOIN zones AS z ON t.puLocationId = z.locationId
GROUP BY z.borough ORDER BY trips DESC
