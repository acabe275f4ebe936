"""The loan-default application: processing, training, prediction, report."""
