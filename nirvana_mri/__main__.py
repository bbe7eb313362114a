"""python -m nirvana_mri: the command line, for launchers such as torchrun."""

from nirvana_mri.cli.app import main

if __name__ == "__main__":
    main()
