"""Inside the room: read the sealed loan book, split it, write the processed rows sealed."""

import strongroom
from strongroom.loan import jobs

with strongroom.enter() as room:
    jobs.process(room, "book/loans.csv", "processed")
