"""Inside the room: fit the preprocessor, make features."""

import strongroom
from strongroom.loan import pipeline_steps
from strongroom.pipelines.published import publish

with strongroom.enter() as room:
    publish(pipeline_steps.preprocess_features(room))
