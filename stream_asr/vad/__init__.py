"""What calls a frame of sound voiced: one detector a module, behind the interface in base."""
