SELECT hour(tpepPickupDateTime) AS hour, count(*) AS trips, round(avg(tripDistance), 2) AS miles
FROM trips GROUP BY hour(tpepPickupDateTime) ORDER BY hour
