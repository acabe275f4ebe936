"""Inside the room: train the trees."""

import strongroom
from strongroom.loan import pipeline_steps
from strongroom.pipelines.published import publish

with strongroom.enter() as room:
    publish(pipeline_steps.train_xgboost_model(room))
