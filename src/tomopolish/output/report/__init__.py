"""`report.html`: what a run changed, how sure that is, and whether it helped; for any browser, offline."""
