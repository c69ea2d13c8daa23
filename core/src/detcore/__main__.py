"""``python -m detcore`` is ``core-run``; ``torchrun --nproc-per-node 2 -m detcore CONFIG`` trains with two."""

from detcore.cli import main

main()
