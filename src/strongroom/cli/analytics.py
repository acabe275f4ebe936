"""`strongroom analytics`: encrypted tables, and SQL over them."""

from strongroom.cli.analytics_federate import app as federate
from strongroom.cli.analytics_query import app as queries
from strongroom.cli.analytics_spark import app as spark
from strongroom.cli.analytics_stage import app as stage
from strongroom.cli.analytics_tables import app as tables
from strongroom.cli.main import noun_app

app = noun_app("Encrypted tables: import, export, inspect and rotate them, and query them with SQL.")
app.add_typer(tables)
app.add_typer(queries)
app.add_typer(spark)
app.add_typer(stage)
app.add_typer(federate, name="federate")
