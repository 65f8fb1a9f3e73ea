"""Run the command line with ``python -m stream_asr``."""

from stream_asr.cli.main import main

if __name__ == "__main__":
    main()
