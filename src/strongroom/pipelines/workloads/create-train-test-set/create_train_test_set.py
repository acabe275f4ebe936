"""Inside the room: hold rows out, then grow the others."""

import strongroom
from strongroom.loan import pipeline_steps
from strongroom.pipelines.published import publish, whole_number

(data_size,) = strongroom.arguments()
with strongroom.enter() as room:
    publish(pipeline_steps.create_train_test_set(room, whole_number(data_size)))
