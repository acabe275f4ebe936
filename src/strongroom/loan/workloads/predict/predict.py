"""Inside the room: score sealed applicants, write the predictions sealed."""

import strongroom
from strongroom.loan import jobs

with strongroom.enter() as room:
    jobs.predict(room, "book/applicants.csv", "loan", "results/predictions.csv")
