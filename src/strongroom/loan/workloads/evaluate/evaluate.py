"""Inside the room: score the model on the held-out rows, write the results sealed."""

import strongroom
from strongroom.loan import jobs

with strongroom.enter() as room:
    jobs.evaluate(room, "processed", "loan", "results/loan")
