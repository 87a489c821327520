"""``python -m phosphene.cli``."""

from phosphene.cli.app import main

main()
