"""The programs under attack, what they need around them, and everybody else who uses them."""
