SELECT puYear, puMonth, count(*) AS trips, round(avg(fareAmount), 2) AS fare,
       round(sum(totalAmount), 2) AS total
FROM trips WHERE puYear BETWEEN 2009 AND 2018
GROUP BY puYear, puMonth ORDER BY puYear, puMonth
