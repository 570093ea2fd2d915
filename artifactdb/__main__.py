"""``python -m artifactdb`` is the command line, where the program itself is not on the path."""

from artifactdb.cli import main

main()
