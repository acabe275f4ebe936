"""Inside the room: read the loan book from an allowed source, validate it, keep it sealed."""

from pathlib import Path

import strongroom
from strongroom.loan import pipeline_steps
from strongroom.pipelines.published import publish
from strongroom.pipelines.sources import load_sources, open_source

(data_url,) = strongroom.arguments()
with strongroom.enter() as room, open_source(data_url, load_sources(Path("sources.toml")), room) as source:
    publish(pipeline_steps.load_data(room, source))
