"""Attacks on the released programs: real sockets, the chart's memory limits, an honest client beside each attack."""
