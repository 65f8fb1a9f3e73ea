"""Sound from files, pipes and microphones, brought to 16 kHz mono float32."""
