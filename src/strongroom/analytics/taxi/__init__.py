"""The taxi application: New York's yellow-taxi trips, generated or imported, and what to ask of them."""
