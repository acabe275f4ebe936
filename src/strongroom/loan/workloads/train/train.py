"""Inside the room: train on the processed rows, publish the model sealed."""

import strongroom
from strongroom.loan import jobs

with strongroom.enter() as room:
    jobs.train(room, "processed", "loan")
