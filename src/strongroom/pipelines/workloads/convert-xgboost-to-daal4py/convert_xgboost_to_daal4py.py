"""Inside the room: make the model that is served."""

import strongroom
from strongroom.loan import pipeline_steps
from strongroom.pipelines.published import publish

with strongroom.enter() as room:
    publish(pipeline_steps.convert_xgboost_to_daal4py(room))
