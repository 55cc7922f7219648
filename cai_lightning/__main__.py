"""`python -m cai_lightning` is `cai`."""

from cai_lightning.experiment.cli import main

main()
