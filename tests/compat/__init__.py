"""Programs of an earlier version against those of this one."""
