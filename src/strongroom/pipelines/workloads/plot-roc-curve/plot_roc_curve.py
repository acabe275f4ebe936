"""Inside the room: the ROC curve of the predictions."""

import strongroom
from strongroom.loan import pipeline_steps
from strongroom.pipelines.published import publish

with strongroom.enter() as room:
    publish(pipeline_steps.plot_roc_curve(room).to_json())
