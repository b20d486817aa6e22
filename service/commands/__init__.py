"""The command line, a file for each group of commands; `service/__main__.py` puts them together."""
