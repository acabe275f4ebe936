"""Azure: what a site stands on, as an ARM template and as the az commands that make and fill it."""
