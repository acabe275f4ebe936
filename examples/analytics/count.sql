SELECT count(*) AS trips FROM trips
