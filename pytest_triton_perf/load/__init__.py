"""How traffic is made and read back."""
