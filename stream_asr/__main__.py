"""``python -m stream_asr`` is ``stream-asr``."""

from stream_asr.cli.main import main

if __name__ == "__main__":
    main()
