"""What is wrong with an installation: a file for each place that is checked, and the report of them all."""
