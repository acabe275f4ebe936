SELECT paymentType, count(*) AS trips, round(avg(tipAmount), 2) AS tip,
       round(100 * sum(tipAmount) / sum(fareAmount), 1) AS percent
FROM trips WHERE fareAmount > 0 GROUP BY paymentType ORDER BY trips DESC
