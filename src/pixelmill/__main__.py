"""``python -m pixelmill`` is the ``pixelmill`` command."""

from pixelmill.cli import main

main()
