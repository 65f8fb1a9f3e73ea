"""Audio input: files, pipes and microphones, converted to 16 kHz mono float32."""
