"""Inside the room: serve the loan application; the certificate's key is made here and attested."""

from strongroom.cli.loan_serve import serve

serve(host="0.0.0.0")  # noqa: S104 -- a service is there to be reached
