"""Inside the room: score the held-out rows."""

import strongroom
from strongroom.loan import pipeline_steps
from strongroom.pipelines.published import publish

with strongroom.enter() as room:
    publish(pipeline_steps.daal4py_inference(room))
