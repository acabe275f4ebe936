SELECT puYear, fare, round(fare - lag(fare) OVER (ORDER BY puYear), 2) AS change
FROM (SELECT puYear, round(avg(fareAmount), 2) AS fare FROM trips
      WHERE puYear BETWEEN 2009 AND 2018 GROUP BY puYear) AS years
ORDER BY puYear
